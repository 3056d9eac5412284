/** A mistake of ours beside the fetch loop: the partition that it concerns goes on, and it is said. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Logger, TestClock } from "effect"
import { describe } from "vitest"
import { disconnected } from "../src/internal/Failure.js"
import { producerOf } from "./fakeBroker.js"
import { batch, clientOf, fetched, poolOf, response, subscription, topicsOf } from "./fakeLog.js"
import { message } from "./Harness.js"

const OFFSET_OUT_OF_RANGE = 1

const topicOf = (id: string | undefined, epoch: number) => () => ({ name: "orders", id, leaders: [1], epochs: [epoch] })

const settled = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const withLog = <A, E, R>(effect: (lines: Array<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel.label} ${String(message)}`)
    })
    return Effect.provide(effect(lines), Logger.replace(Logger.defaultLogger, logger))
  })

const thrown = () => {
  throw new Error("a mistake")
}
/** The first time it breaks, then it does what it should. */
const broken = (defect: () => Effect.Effect<never>, done: () => void = () => {}) => {
  let calls = 0
  return {
    callback: () => Effect.suspend(() => calls++ === 0 ? defect() : Effect.sync(done)),
    calls: () => calls
  }
}

type Subscription = Effect.Effect.Success<ReturnType<typeof subscription>>

/** The mistake is made once, is said once, and the partition is read on. */
const goesOn = (
  { fetcher, taken }: Pick<Subscription, "fetcher" | "taken">,
  calls: () => number,
  lines: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    fetcher.wake()
    yield* settled
    yield* TestClock.adjust("1 second")
    yield* settled
    yield* TestClock.adjust("1 second")
    expect(calls()).toBe(2)
    expect(taken.length).toBeGreaterThanOrEqual(2)
    expect(lines.filter((line) => line.startsWith("ERROR") && line.includes("mistake here"))).toHaveLength(1)
  })

const defects = {
  "a throw": () => Effect.sync(thrown),
  "a die": () => Effect.dieMessage("a mistake"),
  "an interruption from within": () => Effect.interrupt
}

for (const [name, defect] of Object.entries(defects)) {
  describe(name, () => {
    it.scoped("where the log does not have the offset", () =>
      withLog((lines) =>
        Effect.gen(function*() {
          const records = yield* Effect.promise(() => batch(0, ["0", "1"]))
          const { callback, calls } = broken(defect)
          const pool = yield* poolOf(clientOf({
            fetch: () =>
              Effect.suspend(() =>
                calls() < 2
                  ? Effect.succeed(response([fetched(0, { errorCode: OFFSET_OUT_OF_RANGE })], { sessionId: 0 }))
                  : Effect.delay(Effect.succeed(response([fetched(0, { records })], { sessionId: 0 })), 100)
              )
          }))
          const reader = yield* subscription(pool, topicsOf(topicOf(undefined, 0)), 1, {
            callbacks: { onOutOfRange: callback }
          })
          yield* goesOn(reader, calls, lines)
        })
      ))

    it.scoped("where the topic was made anew, and where another leader leads", () =>
      withLog((lines) =>
        Effect.gen(function*() {
          const records = yield* Effect.promise(() => batch(0, ["0", "1"]))
          for (const which of ["onRemade", "onNewLeader"] as const) {
            lines.length = 0
            const pool = yield* poolOf(clientOf({
              fetch: () => Effect.delay(Effect.succeed(response([fetched(0, { records })], { sessionId: 0 })), 100)
            }))
            // Another topic stays another: what is called again is not what is tested here.
            let isMended = false
            const { callback, calls } = broken(defect, () => {
              isMended = true
            })
            const topic = () =>
              which === "onRemade"
                ? topicOf(isMended ? "old" : "new", 0)()
                : topicOf("old", isMended ? 0 : 7)()
            const reader = yield* subscription(pool, topicsOf(topic), 1, {
              callbacks: { [which]: callback },
              partition: { topicId: "old" }
            })
            yield* goesOn(reader, calls, lines)
          }
        })
      ))
  })
}

it.scoped("also where who leads the partitions can't be asked because of it", () =>
  withLog(() =>
    Effect.gen(function*() {
      const records = yield* Effect.promise(() => batch(0, ["0", "1"]))
      let fetches = 0
      const pool = yield* poolOf(clientOf({
        fetch: () =>
          Effect.suspend(() =>
            fetches++ === 0
              ? Effect.succeed(response([fetched(0, { errorCode: 6 })], { sessionId: 0 }))
              : Effect.delay(Effect.succeed(response([fetched(0, { records })], { sessionId: 0 })), 100)
          )
      }))
      const topics = topicsOf(topicOf(undefined, 0))
      const { fetcher, taken } = yield* subscription(pool, { ...topics, refresh: () => Effect.sync(thrown) }, 1)
      fetcher.wake()
      yield* settled
      yield* TestClock.adjust("1 second")
      yield* settled
      yield* TestClock.adjust("1 second")
      expect(taken.length).toBeGreaterThanOrEqual(2)
    })
  ))

it.scoped("also where publishing is what waits for it", () =>
  withLog(() =>
    Effect.gen(function*() {
      const topic = { name: "orders", kind: "plain", partitions: 1 } as const
      let sent = 0
      let asked = 0
      const known = { name: "orders", id: undefined, leaders: [1], epochs: [0], at: 0 }
      const service = yield* producerOf(topic, () =>
        Effect.suspend(() =>
          sent++ === 0
            ? Effect.fail(disconnected("it is gone", false))
            : Effect.succeed({
              topics: [{ topic: "orders", partitions: [{ partition: 0, errorCode: 0, baseOffset: 0 }] }]
            })
        ), { refresh: () => Effect.sync(() => asked++ === 0 ? thrown() : known) })
      const published = yield* Effect.forkScoped(
        service.publish(topic, [message(undefined, "0")], { timeout: Duration.seconds(5) })
      )
      for (let i = 0; i < 6; i++) {
        yield* TestClock.adjust("1 second")
        yield* settled
      }
      expect((yield* Fiber.join(published)).map(Either.isRight)).toEqual([true])
    })
  ))
