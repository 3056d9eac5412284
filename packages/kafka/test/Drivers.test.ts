import { KafkaTransport } from "@effect-eventbus/kafka"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { vi } from "vitest"

vi.mock("@platformatic/kafka", () => {
  throw new Error("it is not there")
})

it.scopedLive("a driver whose package is not installed is a wrong setting, and says what to install", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(KafkaTransport.make({ brokers: ["127.0.0.1:1"], driver: "platformatic" }))
    expect(error).toMatchObject({
      _tag: "InvalidConfiguration",
      issues: [expect.stringMatching(/^kafka\.driver: .*install @platformatic\/kafka@1, .*external/)]
    })
  }))

it.scopedLive("one that does not exist is named with those that do", () =>
  Effect.gen(function*() {
    const driver = "rdkafka" as "kafkajs"
    const error = yield* Effect.flip(KafkaTransport.make({ brokers: ["127.0.0.1:1"], driver }))
    expect(error._tag).toBe("InvalidConfiguration")
    expect(error.message).toContain("kafka.driver")
    expect(error.message).toContain("platformatic")
  }))
