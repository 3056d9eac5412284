import type { EventBus, EventBusError, Subscription, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as Advance from "./advance.js"
import type { Ledger } from "./ledger.js"

/**
 * A transport that records what is published, and which groups read. The bus's observer sees the rest.
 *
 * @internal
 */
export const transport = (inner: Transport.Service, ledger: Ledger): Transport.Service => ({
  ...inner,
  publish: (topic, messages, options) =>
    Effect.suspend(() => {
      // Their places are taken before they are written: a handler may publish before the answer is here.
      const places = messages.map((message) => ({
        topic,
        message,
        receipt: undefined as Transport.Receipt | undefined
      }))
      for (const place of places) ledger.written.push(place)
      ledger.publishing++
      return inner.publish(topic, messages, options).pipe(
        Effect.tap((results) =>
          Effect.sync(() =>
            results.forEach((result, i) =>
              Either.isRight(result) ? void (places[i]!.receipt = result.right) : undefined
            )
          )
        ),
        Effect.ensuring(Effect.sync(() => {
          ledger.publishing--
          ledger.version++
        }))
      )
    }),
  subscribe: (request, consumer) =>
    Effect.gen(function*() {
      const first = request.startFrom === "earliest" ? 0 : ledger.written.length
      const group = ledger.group(request.topic.name, request.group, first)
      const source = yield* inner.subscribe(request, consumer)
      const active = (by: number) =>
        Effect.sync(() => {
          group.active += by
          ledger.version++
        })
      yield* Effect.acquireRelease(active(1), () => active(-1))
      return source
    })
})

type AnySubscribe = (
  ...args: ReadonlyArray<never>
) => Effect.Effect<Subscription.Subscription<never>, EventBusError.SubscribeError, Scope.Scope>

/**
 * A bus whose subscriptions close in virtual time, too: closing works off what was taken, and that takes time. Nothing else moves a
 * virtual clock while a scope closes.
 *
 * @internal
 */
export const bus = Effect.fnUntraced(function*(inner: EventBus.Service, ledger: Ledger) {
  const clock = yield* Effect.clock
  const open = new Set<Effect.Effect<unknown>>()
  // A test's scope may outlive the bus. The bus's own closing would then wait for a clock that does not move.
  yield* Effect.addFinalizer(() => Effect.forEach(open, (close) => close, { concurrency: "unbounded", discard: true }))

  const subscribe: AnySubscribe = (...args) =>
    Effect.gen(function*() {
      const subscription = yield* (inner.subscribe as unknown as AnySubscribe)(...args)
      const close = Advance.during(clock, ledger, subscription.close)
      yield* Effect.acquireRelease(
        Effect.sync(() => open.add(close)),
        () => Effect.zipRight(close, Effect.sync(() => open.delete(close)))
      )
      return { ...subscription, close }
    })

  const service: EventBus.Service = { ...inner, subscribe: subscribe as unknown as EventBus.Service["subscribe"] }
  return service
})
