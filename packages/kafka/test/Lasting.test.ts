import { expect, it } from "@effect/vitest"
import { Effect, Exit, Logger, LogLevel, Scope, TestClock } from "effect"
import { KafkaFailure } from "../src/internal/Failure.js"
import * as Lasting from "../src/internal/Lasting.js"

const logged = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (LogLevel.greaterThanEqual(logLevel, LogLevel.Warning)) lines.push(String(message))
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

it.scoped("rule 14: what fails is said once it has lasted for 10 s, with what it means, and again when it is over", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    const lasting = yield* Lasting.make
    lasting.failed("commit", "Commits are refused", new Error("no right"))
    yield* TestClock.adjust("9 seconds")
    lasting.failed("commit", "Commits are refused: handling stops", new Error("no right"))
    expect(lines).toEqual([])
    expect(lasting.lastedMs("commit")).toBe(9_000)
    expect(lasting.problems()).toEqual([{ message: "Commits are refused: handling stops", since: 0, kind: "commit" }])
    const denied = new KafkaFailure({ type: "GROUP_AUTHORIZATION_FAILED", sent: true, cause: "no right" })
    lasting.failed("commit", "Commits are refused: handling stops", denied)
    expect(lasting.problems()).toMatchObject([{ kind: "right" }])
    yield* TestClock.adjust("1 seconds")
    expect(lines).toEqual(["Commits are refused: handling stops; it has been so for 10 s"])
    yield* TestClock.adjust("20 seconds")
    lasting.worked("commit")
    expect(lines.slice(1)).toEqual(["It is over, after 30 s: Commits are refused: handling stops"])
    expect(lasting.problems()).toEqual([])
  }).pipe(Effect.provide(layer))
})

it.scoped("what works again before is not said, and counts anew when it fails again", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    const lasting = yield* Lasting.make
    for (let i = 0; i < 5; i++) {
      lasting.failed("fetch", "Nothing is fetched", "silence")
      yield* TestClock.adjust("8 seconds")
      lasting.worked("fetch")
      yield* TestClock.adjust("1 seconds")
    }
    lasting.worked("commit")
    expect(lasting.lastedMs("fetch")).toBe(0)
    expect(lines).toEqual([])
  }).pipe(Effect.provide(layer))
})

it.effect("nothing is said after its scope", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    const scope = yield* Scope.make()
    const lasting = yield* Scope.extend(Lasting.make, scope)
    lasting.failed("fetch", "Nothing is fetched", "silence")
    yield* Scope.close(scope, Exit.void)
    lasting.failed("commit", "Nothing is committed", "silence")
    yield* TestClock.adjust("20 seconds")
    expect(lines).toEqual([])
  }).pipe(Effect.provide(layer))
})
