import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Logger, Schedule, Stream } from "effect"
import { PublishFailed } from "../src/EventBusError.js"
import { Lasting } from "../src/internal/lasting.js"
import { Writer } from "../src/internal/parking/writer.js"
import { eventually } from "./Eventually.js"

const changeOf = (key: string) => ({ key, value: new Uint8Array([1]) })

/** A writer of a store that answers so. */
const writerOf = (answer: (key: string) => Either.Either<number, PublishFailed>) =>
  new Writer({
    partition: 0,
    timeout: Duration.seconds(1),
    schedule: Schedule.spaced("1 millis"),
    lasting: new Lasting("Letters can't be written"),
    fork: (effect) => Effect.runFork(Effect.provide(effect, Logger.remove(Logger.defaultLogger))),
    store: {
      read: () => Stream.empty,
      write: (_, changes) => Effect.sync(() => changes.map(({ key }) => answer(key)))
    }
  })

it.live("a writer of letters goes on where whoever is told of one throws", () =>
  Effect.gen(function*() {
    const written: Array<string> = []
    const told: Array<string> = []
    const writer = writerOf((key) => Either.right(written.push(key)))
    const push = (key: string, throws = false) =>
      writer.push({
        change: changeOf(key),
        done: () => {
          told.push(key)
          if (throws) throw new Error("a transport that throws")
        }
      })
    push("a", true)
    push("b")
    yield* eventually("both are told", () => told.join() === "a,b")
    push("c")
    yield* eventually("it goes on", () => told.join() === "a,b,c")
    expect(written).toEqual(["a", "b", "c"])
    yield* writer.settle(Duration.seconds(1))
  }))

it.live("a writer of letters says when so many changes wait that nothing more should be begun", () =>
  Effect.gen(function*() {
    let isAway = true
    const away = new PublishFailed({ topic: "steps", reason: "Unreachable", outcome: "unknown" })
    const writer = writerOf(() => isAway ? Either.left(away) : Either.right(1))
    yield* writer.room.wait
    for (let i = 0; i < 2_000; i++) writer.push({ change: { key: `${i}`, value: null }, done: () => {} })
    const waits = yield* Effect.fork(writer.room.wait)
    yield* Effect.sleep("50 millis")
    expect(waits.unsafePoll()).toBeNull()
    isAway = false
    yield* Fiber.join(waits)
    yield* writer.settle(Duration.seconds(5))
    // A lane that closes lets go of whoever waits.
    isAway = true
    for (let i = 0; i < 2_000; i++) writer.push({ change: { key: `${i}`, value: null }, done: () => {} })
    const last = yield* Effect.fork(writer.room.wait)
    writer.close()
    yield* Fiber.join(last)
  }))
