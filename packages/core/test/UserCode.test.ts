import { EventBus, FailurePolicy, Headers, Topic } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Data, Effect, Exit, FiberId, Logger, LogLevel, Redacted, Schedule, Schema, TestClock } from "effect"
import { describeCause, nameOf } from "../src/internal/describeCause.js"
import * as ParseIssue from "../src/internal/parseIssue.js"
import * as UserCode from "../src/internal/userCode.js"
import { eventually } from "./Eventually.js"
import { Dead, Orders, placed, provideBus } from "./Orders.js"

const revoked = (target: object = {}) => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

const throwing = (name: string) =>
  Object.defineProperty({}, name, {
    get: () => {
      throw new Error("a getter threw")
    }
  })

const hostile: ReadonlyArray<readonly [string, unknown]> = [
  ["a revoked Proxy", revoked()],
  ["a revoked Proxy of a function", revoked(() => {})],
  ["an object whose _tag throws", throwing("_tag")],
  ["an object whose message throws", throwing("message")],
  ["an object whose cause throws", throwing("cause")],
  ["an object whose stack throws", throwing("stack")],
  ["an error whose cause is a revoked Proxy", new Error("outer", { cause: revoked() })],
  ["an object without a prototype", Object.create(null)],
  ["a symbol", Symbol("s")],
  ["undefined", undefined],
  ["null", null],
  ["a bigint", 1n],
  ["an error of five megabytes", new Error("x".repeat(5_000_000))],
  ["a tag of five megabytes", { _tag: "T".repeat(5_000_000) }],
  ["a text of five megabytes", "x".repeat(5_000_000)],
  ["an object with fields of five megabytes", { _tag: "Big", field: "x".repeat(5_000_000) }],
  ["an object with a hundred thousand fields", Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [i, i]))]
]

describe("a user's code", () => {
  it.effect("that throws is a defect, and one that answers no effect, too", () =>
    Effect.gen(function*() {
      const thrown = new Error("boom")
      expect(
        yield* Effect.exit(UserCode.call(
          (): Effect.Effect<void> => {
            throw thrown
          },
          undefined,
          undefined
        ))
      ).toEqual(Exit.die(thrown))
      for (const nothing of [undefined, null, 1, "text", {}, revoked(), Promise.resolve()] as ReadonlyArray<unknown>) {
        const exit = yield* Effect.exit(UserCode.call(() => nothing as Effect.Effect<void>, undefined, undefined))
        expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
      }
      expect(yield* UserCode.call((a: number, b: number) => Effect.succeed(a + b), 1, 2)).toBe(3)
    }))

  for (const [what, value] of hostile) {
    it.effect(`that throws ${what} is a defect that can be looked at and described`, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(UserCode.call(
          (): Effect.Effect<void> => {
            throw value
          },
          undefined,
          undefined
        ))
        if (!Exit.isFailure(exit)) expect.fail("it succeeded")
        expect(describeCause(exit.cause).length).toBeLessThanOrEqual(4_096)
        const raw = Cause.parallel(Cause.fail(value), Cause.die(value))
        expect(describeCause(raw).length).toBeLessThanOrEqual(4_096)
        expect(nameOf(raw).length).toBeLessThanOrEqual(256)
      }))
  }

  it.scoped("that throws what can't be looked at goes the way of a defect, in a handler, in onError and in onFailure", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const letters: Array<string | undefined> = []
      const handled: Array<number> = []
      yield* bus.subscribe(
        Topic.plain("dead", { partitions: 1 }),
        (_, { headers }) => Effect.sync(() => letters.push(Headers.get(headers, "X-Dead-Letter-Cause")))
      )
      const subscription = yield* bus.subscribe(Orders, (event) => {
        if (event._tag === "Placed" && event.n === 0) throw revoked()
        if (event._tag === "Placed" && event.n === 1) return Effect.fail("onError throws")
        return Effect.sync(() => handled.push(1))
      }, {
        onExhausted: FailurePolicy.deadLetter(Dead),
        onError: () => {
          throw revoked()
        },
        onFailure: () => {
          throw revoked()
        }
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1), placed("a", 2)])
      for (let i = 0; i < 24; i++) yield* TestClock.adjust("100 millis")
      yield* eventually("the follower is handled", () => handled.length === 1 && letters.length === 2)
      for (const letter of letters) expect(letter).toContain("can't be looked at")
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(Logger.withMinimumLogLevel(LogLevel.None), provideBus()))
})

class Unknown extends Data.TaggedError("Unknown")<{ readonly id: string; readonly key: Redacted.Redacted }> {}

describe("a cause in words", () => {
  it("has the name, the message, where it came from and what caused it", () => {
    const cause = Cause.die(new TypeError("outer", { cause: new RangeError("inner") }))
    const lines = describeCause(cause).split("\n")
    expect(lines[0]).toBe("TypeError: outer")
    expect(lines[1]).toContain("UserCode.test")
    expect(lines.at(-1)).toBe("  caused by RangeError: inner")
  })

  it("has the fields of an error without a message, and not what is redacted", () => {
    const text = describeCause(Cause.fail(new Unknown({ id: "o-1", key: Redacted.make("secret") })))
    expect(text.split("\n")[0]).toBe("Unknown { id: \"o-1\", key: … }")
    expect(describeCause(Cause.fail({ _tag: "Bad", n: 5 }))).toBe("Bad { n: 5 }")
    expect(describeCause(Cause.fail("just a text"))).toBe("just a text")
  })

  it("names the first failure, else the first defect, else the interruption", () => {
    const interrupt = Cause.interrupt(FiberId.none)
    expect(nameOf(Cause.parallel(Cause.die(new TypeError("x")), Cause.fail({ _tag: "Bad" })))).toBe("Bad")
    expect(nameOf(Cause.sequential(interrupt, Cause.die(new TypeError("x"))))).toBe("TypeError")
    expect([nameOf(interrupt), describeCause(interrupt)]).toEqual(["Interrupted", "it was interrupted"])
    expect([nameOf(Cause.empty), describeCause(Cause.empty)]).toEqual(["Interrupted", ""])
  })

  it("is short and quick however deep a cause is", () => {
    let cause: Cause.Cause<string> = Cause.fail("x".repeat(3_000))
    for (let i = 0; i < 100_000; i++) cause = Cause.sequential(cause, Cause.fail("y".repeat(100)))
    expect(describeCause(cause).length).toBeLessThanOrEqual(4_096)
  })

  it("has nothing of the payload that a Schema did not take", () => {
    const Secret = Schema.Struct({
      total: Schema.Number,
      card: Schema.String.pipe(Schema.pattern(/^\d+$/, { message: ({ actual }) => `bad card ${String(actual)}` })),
      at: Schema.Date,
      kind: Schema.Literal("a", "b"),
      list: Schema.Array(Schema.Number),
      record: Schema.Record({ key: Schema.String, value: Schema.Number }),
      nested: Schema.Union(
        Schema.Struct({ _tag: Schema.Literal("A"), n: Schema.Number }),
        Schema.Struct({ _tag: Schema.Literal("B"), s: Schema.String })
      )
    })
    const error = Schema.decodeUnknownEither(Secret, { errors: "all", onExcessProperty: "error" })({
      total: "secret-1",
      card: "secret-2",
      at: "the secret",
      kind: "secret-4",
      list: [1, "secret-5"],
      record: { "secret-6": "secret-7" },
      nested: { _tag: "A", n: "secret-8" },
      "secret-9": 1
    })
    if (error._tag !== "Left") return expect.fail("it was decoded")
    expect(error.left.message).toContain("secret")
    const text = ParseIssue.format(error.left.issue)
    expect(text).not.toContain("secret")
    expect(text.split("; ")).toEqual([
      "[\"*\"]: is not expected",
      "[\"total\"]: expected number, found a string",
      expect.stringMatching(/^\["card"\]: expected .*, found a string$/),
      expect.stringMatching(/^\["at"\]: expected .*, found an object$/),
      "[\"kind\"]: expected \"a\" | \"b\", found a string",
      "[\"list\"][1]: expected number, found a string",
      "[\"record\"][\"*\"]: expected number, found a string",
      "[\"nested\"][\"n\"]: expected number, found a string"
    ])
    const discreet = new ParseIssue.DiscreetParseError({ issue: error.left.issue })
    for (
      const shown of [
        discreet.message,
        String(discreet),
        discreet.stack,
        JSON.stringify(discreet),
        Cause.pretty(Cause.fail(new Error("outer", { cause: discreet })), { renderErrorCause: true }),
        Cause.pretty(Cause.fail(discreet)),
        describeCause(Cause.fail(error.left)),
        describeCause(Cause.die(new Error("outer", { cause: error.left })))
      ]
    ) expect(shown).not.toContain("secret")
  })
})

describe("what is logged of a failure", () => {
  it.scoped("has a bound", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      yield* Effect.gen(function*() {
        let failed = 0
        yield* bus.subscribe(Orders, () => Effect.fail(new Error("x".repeat(5_000_000))), {
          onExhausted: FailurePolicy.drop,
          retry: Schedule.recurs(0),
          onFailure: () => {
            failed++
            throw new Error("y".repeat(5_000_000))
          }
        })
        yield* bus.publish(Orders, placed("a", 0))
        yield* eventually("it is given up", () => failed === 1 && logged.length === 2)
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      for (const one of logged) expect(one.length).toBeLessThan(5_000)
    }).pipe(provideBus()))
})
