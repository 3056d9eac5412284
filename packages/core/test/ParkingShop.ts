/** What the tests of parking share: a handler that fails as it is told, in several lives of a process on one broker. */
import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  type Subscription,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { expect } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Schedule, Schema, TestClock } from "effect"
import { settle } from "./Eventually.js"

export class Refused extends Schema.TaggedError<Refused>()("Refused", { text: Schema.optional(Schema.String) }) {}
export class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

export const Steps = Topic.envelope("steps", Schema.TaggedStruct("Step", { n: Schema.Int }), { partitions: 1 })

export const by = { who: "anna", why: "the price is mended" }

export type Publish = (aggregate: string, ...numbers: ReadonlyArray<number>) => Effect.Effect<void>

export const publisher = (bus: EventBus.Service): Publish => (aggregate, ...numbers) =>
  Effect.orDie(
    Effect.forEach(
      numbers,
      (n) => bus.publish(Steps, { aggregateId: aggregate, payload: { _tag: "Step" as const, n } }),
      { discard: true }
    )
  )

/** A bus of its own on the broker, with `around` between it and its store. Its log lines are added to `lines`. */
export const provideBus = (
  around: (store: Transport.Store) => Transport.Store,
  lines: Array<string>,
  isOwned?: () => boolean
) =>
<A, E>(
  effect: Effect.Effect<A, E, EventBus.EventBus>
): Effect.Effect<A, E, MemoryBroker.MemoryBroker> =>
  effect.pipe(
    Effect.provide(EventBus.layer),
    Effect.provide(EventBusConfig.layer({ closeDeadline: "1 second" })),
    Effect.provide(Layer.effect(
      Transport.Transport,
      Effect.map(MemoryTransport.make, (transport): Transport.Service => ({
        ...transport,
        store: (request) => Effect.map(transport.store!(request), around),
        subscribe: (request, consumer) =>
          transport.subscribe(request, {
            assigned: (assignment) =>
              consumer.assigned(
                isOwned === undefined ? assignment : Object.assign(Object.create(assignment), { isOwned })
              )
          })
      }))
    )),
    Effect.provide(Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message)))))
  ) as Effect.Effect<A, E, MemoryBroker.MemoryBroker>

/** What a life has of its own. */
export interface Life {
  readonly policy?: Partial<FailurePolicy.Park>
  readonly around?: (store: Transport.Store) => Transport.Store
  /** Where so many fail that it would stop them. */
  readonly guard?: "off"
  /** Whether it is certain that the partition is ours. */
  readonly isOwned?: () => boolean
}

/** What happens on one broker over several lives of a process. */
export class Shop {
  /** Each start of a handler: aggregate and number. */
  readonly started: Array<string> = []
  readonly handled: Array<string> = []
  /** These fail; with ` broken` behind them by another error. */
  readonly failing = new Set<string>()
  readonly events: Array<Observer.Event> = []
  readonly gates = new Map<string, Deferred.Deferred<void>>()
  readonly lines: Array<string> = []
  /** What the failures say. */
  text: string | undefined
  /** How many deliveries said that they may be duplicates. */
  doubts = 0

  private readonly handler = (
    { n }: { readonly n: number },
    { aggregateId, maybeDuplicate }: { readonly aggregateId: string | undefined; readonly maybeDuplicate: boolean }
  ): Effect.Effect<void, Refused | Broken> =>
    Effect.gen(this, function*() {
      const one = `${aggregateId}${n}`
      this.started.push(one)
      if (maybeDuplicate) this.doubts++
      const gate = this.gates.get(one)
      if (gate !== undefined) yield* Deferred.await(gate)
      if (this.failing.has(`${one} broken`)) return yield* new Broken({})
      if (this.failing.has(one)) return yield* new Refused(this.text === undefined ? {} : { text: this.text })
      this.handled.push(one)
    })

  of(aggregate: string): ReadonlyArray<number> {
    return this.handled.filter((one) => one.startsWith(aggregate)).map((one) => Number(one.slice(1)))
  }

  /** One life: what runs in it ends with it. */
  readonly life = <A, E>(
    work: (subscription: Subscription.Subscription<unknown>, publish: Publish) => Effect.Effect<A, E>,
    { around = (store) => store, guard, isOwned, policy = {} }: Life = {}
  ) =>
    Effect.gen(this, function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Steps, this.handler, {
        guard,
        retry: Schedule.recurs(0),
        onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop, ...policy })
      })
      return yield* work(subscription, publisher(bus))
    }).pipe(
      Effect.scoped,
      provideBus(around, this.lines, isOwned),
      Effect.provideService(Observer.Observer, { event: (event) => void this.events.push(event) })
    )

  told(tag: "Parked" | "Released" | "Discarded") {
    return this.events.flatMap((event) => event._tag === tag ? [event] : [])
  }
}

export const onBroker = (options: MemoryBroker.Options = {}) => Effect.provide(MemoryBroker.layer(options))

/** Waits until these aggregates are parked, each with so many letters. */
export const waitFor = (
  what: string,
  { control }: Subscription.Subscription<unknown>,
  ...expected: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    let now: ReadonlyArray<string> = []
    for (let i = 0; i < 400; i++) {
      now = (yield* control.parked()).aggregates.map(({ aggregate, letters }) => `${aggregate}:${letters}`)
      if (now.join() === expected.join()) return
      yield* settle
    }
    expect(now, what).toEqual(expected)
  })

export const eventuallyParked = ({ stats }: Subscription.Subscription<unknown>, letters: number) =>
  Effect.repeat(Effect.zipRight(settle, stats), { until: ({ parked }) => parked === letters })

/** Time goes on while an effect runs. */
export const advanced = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.raceFirst(effect, goesOn("100 millis"))

/** Time goes on. Closing waits for its deadline. */
export const goesOn = (step: "100 millis" | "1 second" = "1 second") =>
  Effect.forever(Effect.zipRight(settle, TestClock.adjust(step)))
