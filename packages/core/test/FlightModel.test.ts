import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  type Subscription,
  Topic
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck, Layer, Logger, LogLevel, Schema } from "effect"
import { transitions } from "../src/internal/flight.js"

const schedules = Number(process.env["TEST_FLIGHT_RUNS"] ?? (process.env["TEST_LONG"] === "1" ? 2_000 : 200))

const ends = ["ok", "ok", "ok", "ok", "fail", "die", "interrupt", "slow"] as const

interface Plan {
  readonly semantics: "at-least-once" | "at-most-once"
  readonly policy: "hold" | "drop" | "deadLetter"
  readonly partitions: number
  readonly concurrency: number | undefined
  readonly config: EventBusConfig.Options
  /** What each message's attempts end with; after them they succeed, unless `lasts`. */
  readonly messages: ReadonlyArray<{
    readonly aggregate: number
    readonly attempts: ReadonlyArray<typeof ends[number]>
    readonly lasts: boolean
    readonly isGarbage: boolean
  }>
  /** In milliseconds: when another bus joins and leaves again, and when all close. */
  readonly joins: number | undefined
  readonly leaves: number
  readonly closes: number
}

const small = (max: number) => FastCheck.integer({ min: 1, max })

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  semantics: FastCheck.constantFrom("at-least-once" as const, "at-most-once" as const),
  policy: FastCheck.constantFrom("hold" as const, "drop" as const, "deadLetter" as const),
  partitions: small(3),
  concurrency: FastCheck.option(small(4), { nil: undefined }),
  config: FastCheck.record({
    mailboxCapacity: small(5),
    maxUnfinished: small(12),
    maxActors: small(6),
    maxSettledAhead: small(6),
    maxBytes: FastCheck.integer({ min: 100, max: 4_000 }),
    closeDeadline: FastCheck.constantFrom("0 millis" as const, "5 millis" as const),
    drainDeadline: FastCheck.constantFrom("0 millis" as const, "5 millis" as const)
  }),
  messages: FastCheck.array(
    FastCheck.record({
      aggregate: FastCheck.nat({ max: 7 }),
      attempts: FastCheck.array(FastCheck.constantFrom(...ends), { maxLength: 4 }),
      lasts: FastCheck.boolean(),
      isGarbage: FastCheck.boolean().map((one) => one)
    }).map((one) => ({ ...one, isGarbage: one.isGarbage && one.aggregate === 7 })),
    { minLength: 1, maxLength: 40 }
  ),
  joins: FastCheck.option(FastCheck.nat({ max: 8 }), { nil: undefined }),
  leaves: FastCheck.nat({ max: 8 }),
  closes: FastCheck.nat({ max: 15 })
})

/** Follows every flight of one bus. */
class Model implements Observer.Service {
  readonly faults: Array<string> = []
  readonly outcomes: Partial<Record<Observer.Outcome, number>> = {}
  received = 0
  retried = 0
  restarted = 0
  private readonly states = new Map<Observer.FlightView, Observer.State>()
  private readonly bounds = new Map<string, boolean>()
  private readonly assigned = new Map<string, number>()

  readonly transition = (flight: Observer.FlightView, from: Observer.State | undefined): void => {
    const known = this.states.get(flight)
    if (known !== from) this.faults.push(`told of ${from} -> ${flight.state}, but it was ${known}`)
    this.states.set(flight, flight.state)
    if (from === undefined) {
      this.received++
      if (flight.state !== "queued" && flight.state !== "settling") this.faults.push(`began as ${flight.state}`)
      return
    }
    if (!transitions[from].includes(flight.state)) this.faults.push(`${from} -> ${flight.state} is not legal`)
    if ((flight.state === "ended") !== (flight.outcome !== undefined)) {
      this.faults.push(`${flight.state} with the outcome ${flight.outcome}`)
    }
    if (flight.state === "ended") {
      this.outcomes[flight.outcome!] = (this.outcomes[flight.outcome!] ?? 0) + 1
      this.retried += Math.max(0, flight.attempt - 1)
    }
  }

  readonly event = (event: Observer.Event): void => {
    if (event._tag === "Restarted") this.restarted++
    if (event._tag === "Bound") {
      const name = `${event.bound} of ${event.subscription}`
      // Each lane has a bound of its own for what is unfinished.
      if (event.bound === "unfinished") {
        return void this.assigned.set(name, (this.assigned.get(name) ?? 0) + (event.isReached ? 1 : -1))
      }
      if ((this.bounds.get(name) ?? false) === event.isReached) this.faults.push(`${name}: twice ${event.isReached}`)
      this.bounds.set(name, event.isReached)
    }
    if (event._tag === "Assigned" || event._tag === "Revoked") {
      const name = `${event.partition} in epoch ${event.epoch}`
      const now = (this.assigned.get(name) ?? 0) + (event._tag === "Assigned" ? 1 : -1)
      if (now < 0 || now > 1) this.faults.push(`${name}: ${event._tag} ${now}`)
      this.assigned.set(name, now)
    }
  }

  /** All is over. */
  check(stats: Subscription.Stats): void {
    for (const state of this.states.values()) if (state !== "ended") this.faults.push(`left as ${state}`)
    for (const [name, isReached] of this.bounds) if (isReached) this.faults.push(`${name} is still reached`)
    for (const [name, count] of this.assigned) if (count !== 0) this.faults.push(`${name}: ${count} at the end`)
    expect(this.faults).toEqual([])
    expect(stats).toMatchObject({
      received: this.received,
      handled: this.outcomes.handled ?? 0,
      deadLettered: this.outcomes["dead-lettered"] ?? 0,
      dropped: this.outcomes.dropped ?? 0,
      failed: this.outcomes.failed ?? 0,
      lost: this.outcomes.lost ?? 0,
      retried: this.retried,
      restarted: this.restarted,
      held: 0,
      actors: 0
    })
  }
}

const topic = Topic.envelope("model", Schema.TaggedStruct("Planned", { n: Schema.Int }))
const raw = Topic.plain("model")

const handlerOf = (plan: Plan) => ({ n }: { readonly n: number }, { attempt }: { readonly attempt: number }) =>
  Effect.suspend((): Effect.Effect<void, "failed"> => {
    const { attempts, lasts } = plan.messages[n]!
    const end = attempts.length === 0
      ? "ok"
      : lasts
      ? attempts[(attempt - 1) % attempts.length]!
      : attempts[attempt - 1] ?? "ok"
    switch (end) {
      case "ok":
        return Effect.void
      case "fail":
        return Effect.fail("failed")
      case "die":
        return Effect.die("died")
      case "interrupt":
        return Effect.interrupt
      case "slow":
        return Effect.sleep(3)
    }
  })

const policyOf = (plan: Plan): FailurePolicy.FailurePolicy =>
  plan.policy === "hold"
    ? FailurePolicy.hold({ undecodable: FailurePolicy.drop })
    : plan.policy === "drop"
    ? FailurePolicy.drop
    : FailurePolicy.deadLetter("model-dead")

/** A bus on the broker that follows the plan until `during` has ended; then all of it is over, and the model is checked. */
const follow = <E>(
  broker: MemoryBroker.MemoryBroker["Type"],
  plan: Plan,
  during: (bus: EventBus.Service) => Effect.Effect<void, E>
) => {
  const model = new Model()
  const bus = EventBus.layer.pipe(
    Layer.provide(MemoryTransport.layerBroker),
    Layer.provide(Observer.layer(model)),
    Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, broker)),
    Layer.provide(EventBusConfig.layer({
      ...plan.config,
      retryTimes: 2,
      retryBase: "1 millis",
      retryCap: "2 millis",
      restartTimes: 2,
      restartBase: "1 millis",
      holdInterval: "1 millis"
    }))
  )
  return Effect.scoped(Effect.gen(function*() {
    const service = yield* EventBus.EventBus
    const subscription: { readonly stats: Effect.Effect<Subscription.Stats> } = plan.semantics === "at-least-once"
      ? yield* service.subscribe(topic, handlerOf(plan), {
        onExhausted: policyOf(plan),
        concurrency: plan.concurrency
      })
      : yield* service.subscribe(topic, handlerOf(plan), {
        semantics: "at-most-once",
        concurrency: plan.concurrency
      })
    yield* during(service)
    return subscription
  })).pipe(
    Effect.flatMap(({ stats }) => stats),
    Effect.provide(bus),
    Effect.map((stats) => model.check(stats))
  )
}

const run = (plan: Plan) =>
  Effect.gen(function*() {
    const broker = yield* MemoryBroker.make({ partitions: plan.partitions })
    yield* follow(broker, plan, (bus) =>
      Effect.gen(function*() {
        for (let n = 0; n < plan.messages.length; n++) {
          const { aggregate, isGarbage } = plan.messages[n]!
          yield* isGarbage
            ? bus.publish(raw, { key: `order-${aggregate}`, body: "{" })
            : bus.publish(topic, { aggregateId: `order-${aggregate}`, payload: { _tag: "Planned" as const, n } })
        }
        if (plan.joins !== undefined) {
          yield* Effect.sleep(plan.joins)
          yield* follow(broker, plan, () => Effect.sleep(plan.leaves))
        }
        yield* Effect.sleep(plan.closes)
      }))
  })

describe("a flight", () => {
  it(
    "goes through legal states and ends once, whatever happens, and the statistics are what was seen",
    () =>
      FastCheck.assert(
        FastCheck.asyncProperty(plan, (one) =>
          Effect.runPromise(
            run(one).pipe(
              Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => new Error("it never ended") }),
              Logger.withMinimumLogLevel(LogLevel.None)
            )
          )),
        { numRuns: schedules, endOnFailure: true }
      ),
    schedules * 500
  )

  it("has no state that can't be left, and none that can't be reached", () => {
    for (const [state, next] of Object.entries(transitions)) expect(next.length > 0).toBe(state !== "ended")
    const reached = new Set([...Object.values(transitions).flat(), "settling", "queued"])
    expect(Array.from(reached).sort()).toEqual(Object.keys(transitions).sort())
  })
})
