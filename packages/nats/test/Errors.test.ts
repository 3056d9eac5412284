import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Redacted } from "effect"
import { NatsErrors, Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

const apiError = (code: number, err_code: number) => ({ code, err_code, description: "what the server says" })

describe("What an error of JetStream means", () => {
  it.each([
    [503, 10008, "Temporary"],
    [429, 10167, "Temporary"],
    [500, 10158, "Temporary"],
    [500, 10009, "Temporary"],
    [500, 10041, "Temporary"],
    [503, 10063, "Temporary"],
    [400, 10002, "StorageFull"],
    [503, 10023, "StorageFull"],
    [500, 10028, "StorageFull"],
    [500, 10047, "StorageFull"],
    [503, 10077, "StorageFull"],
    [404, 10059, "NotFound"],
    [404, 10014, "NotFound"],
    [404, 10149, "NotFound"],
    [400, 10054, "TooLarge"],
    [400, 10097, "TooLarge"],
    [400, 10070, "WrongLast"],
    [400, 10071, "WrongLast"],
    [400, 10164, "WrongLast"],
    [503, 10076, "NotEnabled"],
    [503, 10039, "NotEnabled"],
    [400, 10003, "Refused"],
    [400, 10026, "Refused"],
    [400, 10027, "Refused"],
    [400, 10058, "Refused"],
    [400, 10060, "Refused"],
    [400, 10065, "Refused"],
    [400, 10099, "Refused"],
    [500, 10012, "Refused"],
    [500, 10052, "Refused"],
    [500, 10069, "Refused"],
    [503, 10036, "Refused"],
    [500, 10049, "Failed"],
    // Those of later servers, by their class.
    [400, 19999, "Refused"],
    [429, 19999, "Temporary"],
    [503, 19999, "Temporary"],
    [500, 19999, "Failed"]
  ])("%i, %i: %s", (code, errCode, meaning) => {
    const error = apiError(code, errCode)
    assert.strictEqual(NatsErrors.meaningOf(error), meaning)
    const published = NatsErrors.toPublishError("orders", 7, error)
    const failure = new NatsErrors.NatsRequestFailed({ subject: "$JS.API", reason: "Api", error })
    const notWritten = NatsErrors.toNotWritten("orders", failure)
    if (meaning === "TooLarge") assert.strictEqual(published._tag, "MessageTooLarge")
    else {
      const reason = meaning === "StorageFull"
        ? "StorageFull"
        : meaning === "WrongLast"
        ? "WrongLastSequence"
        : "Rejected"
      assert.deepInclude({ ...published }, { reason, outcome: "not-written" })
      assert.deepInclude({ ...notWritten }, { reason: meaning === "StorageFull" ? "StorageFull" : "Rejected" })
    }
  })
})

describe.each(T.versions)("What the server denies, on %s", (version) => {
  const servers = sharedServer(
    version,
    `authorization { users: [
      { user: all, password: p }
      { user: few, password: p, permissions: {
        publish: { deny: ["test.denied.>", "$JS.API.STREAM.CREATE.>", "$JS.API.CONSUMER.CREATE.>"] } } }
      { user: deaf, password: p, permissions: { subscribe: { deny: ["_INBOX.>"] } } }
    ] }`
  )

  const as = (user: string) =>
    Effect.suspend(() => T.transport(servers(), { user, password: Redacted.make("p"), connectAttempts: 1 }))

  it("a publish fails at once, with the permission that is missing, and those to other subjects go on", () =>
    T.run(Effect.gen(function*() {
      const all = yield* as("all")
      const few = yield* as("few")
      const [denied, allowed] = [T.topic("envelope", "denied"), T.topic()]
      yield* T.publish(all, denied, [T.message(0)])
      yield* T.publish(all, allowed, [T.message(0)])
      const start = performance.now()
      const results = yield* few.publish(denied, T.messages(1, 5), { timeout: Duration.seconds(10) })
      assert.isBelow(performance.now() - start, 3_000)
      for (const result of results) {
        const error = Either.getOrThrow(Either.flip(result))
        assert.deepInclude({ ...error }, { _tag: "PublishFailed", reason: "Rejected", outcome: "not-written" })
        assert.include(error.message, `the user has no permission to publish to "${denied.name}"`)
      }
      yield* T.publish(few, allowed, T.messages(1, 5))
    })))

  it("a request fails at once, with the permission that is missing", () =>
    T.run(Effect.gen(function*() {
      const few = yield* as("few")
      const topic = T.topic()
      const start = performance.now()
      const [published] = yield* few.publish(topic, [T.message(0)], { timeout: Duration.seconds(10) })
      const error = Either.getOrThrow(Either.flip(published!))
      const subject = `$JS.API.STREAM.CREATE.${Subject.toStream(topic.name)}`
      assert.deepInclude({ ...error }, { _tag: "PublishFailed", reason: "Rejected", outcome: "not-written" })
      assert.include(error.message, subject)
      yield* T.publish(yield* as("all"), topic, [T.message(0)])
      const refused = yield* Effect.flip(few.subscribe(T.request(topic), new T.TestConsumer()))
      assert.strictEqual(refused._tag, "SubscribeFailed")
      assert.include(refused.message, `no permission to publish to "$JS.API.CONSUMER.CREATE.`)
      assert.isBelow(performance.now() - start, 5_000)
    })))

  it("who may not hear replies is told so when it connects", () =>
    T.run(Effect.gen(function*() {
      const start = performance.now()
      const error = yield* Effect.flip(as("deaf"))
      assert.include(error.message, `no permission to subscribe to "_INBOX.`)
      assert.isBelow(performance.now() - start, 3_000)
    })))
})
