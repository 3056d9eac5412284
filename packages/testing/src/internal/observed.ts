import type { Delivery, EventBus, EventBusError, Failure, Subscription, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as Advance from "./advance.js"
import type { Attempt, Entry, Group, Ledger } from "./ledger.js"

/**
 * A transport that records the calls between bus and transport.
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
      const source = yield* inner.subscribe(request, {
        assigned: (assignment) =>
          observedLane(consumer.assigned(observedAssignment(assignment, group, ledger)), group, ledger)
      })
      group.active++
      ledger.version++
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          group.active--
          ledger.version++
        })
      )
      return source
    })
})

const observedAssignment = (inner: Transport.Assignment, group: Group, ledger: Ledger): Transport.Assignment => {
  const settled = (message: Transport.IncomingMessage) => {
    group.entry(message.partition, message.offset).settled = true
    ledger.version++
  }
  return {
    topic: inner.topic,
    partition: inner.partition,
    epoch: inner.epoch,
    finish: (message) => {
      inner.finish(message)
      settled(message)
    },
    settle: (messages) => Effect.tap(inner.settle(messages), () => Effect.sync(() => messages.forEach(settled))),
    resume: () => inner.resume(),
    isOwned: () => inner.isOwned?.() !== false
  }
}

const observedLane = (inner: Transport.Lane, group: Group, ledger: Ledger): Transport.Lane => ({
  offer: (messages) => {
    const taken = inner.offer(messages)
    for (let i = 0; i < taken; i++) group.entry(messages[i]!.partition, messages[i]!.offset)
    ledger.version++
    return taken
  },
  close: (options) => inner.close(options)
})

type AnyHandler = (event: never, delivery: Delivery.Delivery) => Effect.Effect<unknown, unknown, unknown>
type AnyFailure = Failure.EnvelopeFailure | Failure.PlainFailure
interface AnyOptions {
  readonly onFailure?: ((failure: never) => Effect.Effect<unknown, never, unknown>) | undefined
}
type AnySubscribe = (
  topic: { readonly name: string },
  handler: AnyHandler,
  options: AnyOptions
) => Effect.Effect<Subscription.Subscription<AnyFailure>, EventBusError.SubscribeError, Scope.Scope>

/**
 * A bus that writes down what handlers do and what is given up.
 *
 * @internal
 */
export const bus = Effect.fnUntraced(function*(inner: EventBus.Service, ledger: Ledger) {
  const clock = yield* Effect.clock
  const open = new Set<Effect.Effect<unknown>>()
  // A test's scope may outlive the bus. The bus's own closing would then wait for a clock that does not move.
  yield* Effect.addFinalizer(() => Effect.forEach(open, (close) => close, { concurrency: "unbounded", discard: true }))

  const handlerOf = (topic: string, handler: AnyHandler): AnyHandler => (event, delivery) =>
    Effect.suspend(() => {
      const group = ledger.group(topic, delivery.group)
      const entry = group.entry(delivery.partition, delivery.offset)
      const attempt: Attempt = { startedAt: clock.unsafeCurrentTimeMillis(), endedAt: undefined, exit: undefined }
      started(entry, attempt, event, delivery)
      ledger.version++
      return Effect.onExit(Effect.suspend(() => handler(event, delivery)), (exit) =>
        Effect.sync(() => {
          attempt.endedAt = clock.unsafeCurrentTimeMillis()
          attempt.exit = exit
          if (exit._tag === "Success") {
            entry.handled = true
            group.handled.push(entry)
          }
          ledger.version++
        }))
    })

  const onFailureOf = (topic: string, options: AnyOptions | undefined) => (failure: AnyFailure) =>
    Effect.suspend(() => {
      const group = ledger.group(topic, failure.group)
      group.entry(failure.position.partition, failure.position.offset).failure = failure
      ledger.version++
      return options?.onFailure === undefined ? Effect.void : options.onFailure(failure as never)
    })

  const subscribe = (topic: { readonly name: string }, handler: AnyHandler, options?: AnyOptions) =>
    Effect.gen(function*() {
      const subscription = yield* (inner.subscribe as unknown as AnySubscribe)(
        topic,
        handlerOf(topic.name, handler),
        { ...options, onFailure: onFailureOf(topic.name, options) }
      )
      // Closing works off what was taken, and that takes time. Nothing else moves a virtual clock while a scope closes.
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

const started = (entry: Entry, attempt: Attempt, event: unknown, delivery: Delivery.Delivery): void => {
  entry.attempts.push(attempt)
  entry.event = event
  entry.delivery = delivery
  // The message came again. Its present outcome counts.
  entry.handled = false
}
