import { EventBus, FailurePolicy, Supervisor, Topic, Transport } from "@effect-eventbus/core"
import * as VirtualTime from "@effect-eventbus/testing/VirtualTime"
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Logger, LogLevel, Schema } from "effect"
import { judged, seed } from "./model/judged.js"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.TEST_RECOVERY_RUNS ?? (process.env.TEST_LONG === "1" ? 600 : 60))

it(
  `keeps the contract in ${runs} random schedules with recovery by itself and by hand, and switches (TEST_MODEL_SEED=${seed})`,
  () =>
    judged(
      "recovery",
      Schedule.recovered,
      runs,
      ({ commands }, add) => add("set by hand", commands.filter(({ _tag }) => _tag === "recover").length)
    ),
  900_000
)

/** A transport without messages, whose backlog is what a test says. */
const transportOf = (status: () => Transport.SourceStatus): Transport.Service => ({
  name: "scripted",
  capabilities: {
    durable: false,
    binaryHeaders: true,
    tombstones: true,
    partitions: true,
    settlement: "position",
    maxMessageBytes: 1_000_000
  },
  publish: () => Effect.succeed([]),
  subscribe: () => Effect.succeed({ stop: Effect.void, status: Effect.sync(status) })
})

const Orders = Topic.envelope("orders", Schema.TaggedStruct("Placed", {}))
const [enterAt, leaveAt, calmFor] = [200, 100, 3_000]

interface Step {
  readonly backlog: number | undefined
  readonly isConnected: boolean
  readonly ms: number
}

const step: fc.Arbitrary<Step> = fc.record({
  backlog: fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 0, max: leaveAt + 20 }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 300 }) },
    { weight: 1, arbitrary: fc.constant(undefined) }
  ),
  isConnected: fc.oneof({ weight: 14, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  ms: fc.integer({ min: 1, max: 4_000 })
})

/** Of one look each 100 ms: what it saw, and how the subscription was a little later. */
interface Look extends Step {
  readonly isInRecovery: boolean
}

const looksAt = (steps: ReadonlyArray<Step>, atStart: boolean) =>
  Effect.gen(function*() {
    let current: Step = { backlog: 0, isConnected: true, ms: 0 }
    const transport = transportOf(() => ({
      isConnected: current.isConnected,
      problems: [],
      // Two partitions, the second of which has nothing.
      partitions: [current.backlog, 5].map((end, partition) => ({
        topic: "orders",
        partition,
        epoch: 1,
        position: 0,
        watermark: partition * 5,
        end,
        movedAt: 0
      }))
    }))
    const bus = yield* EventBus.make.pipe(
      Effect.provide(Supervisor.layer()),
      Effect.provideService(Transport.Transport, transport)
    )
    const subscription = yield* bus.subscribe(Orders, () => Effect.void, {
      onExhausted: FailurePolicy.drop,
      recovery: { atStart, enterAt, leaveAt, calmFor, interval: 100 }
    })
    const looks: Array<Look> = []
    yield* Effect.sleep(50)
    for (const step of steps) {
      current = step
      for (let i = 0; i < Math.ceil(step.ms / 100); i++) {
        yield* Effect.sleep(100)
        looks.push({ ...step, isInRecovery: yield* subscription.isInRecoveryMode })
      }
    }
    return looks
  }).pipe(Effect.scoped)

/** In these it surely ends. */
const calmSteps = Array.from({ length: 10 }, () => ({ backlog: 0, isConnected: true, ms: calmFor }))

it("the backlog turns recovery on at once and off when it was small for its time, so that it does not flap, at random", async () => {
  let ends = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), fc.boolean(), async (steps, atStart) => {
      const looks = await Effect.runPromise(
        VirtualTime.run(looksAt(steps, atStart).pipe(Logger.withMinimumLogLevel(LogLevel.None)))
      )
      let [was, calm] = [atStart, 0]
      for (const { backlog, isConnected, isInRecovery } of looks) {
        const isCalm = isConnected && backlog !== undefined && backlog <= leaveAt
        calm = was && isCalm ? calm + 1 : 0
        if (!was) expect(isInRecovery).toBe((backlog ?? 0) > enterAt)
        // The first look of a calm time and the last one are that far apart.
        else expect(isInRecovery).toBe((calm - 1) * 100 < calmFor)
        if (was && !isInRecovery) ends++
        was = isInRecovery
      }
    }),
    { numRuns: runs >> 2, seed, examples: [[calmSteps, true]] }
  )
  expect(ends).toBeGreaterThan(0)
})
