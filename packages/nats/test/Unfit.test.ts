import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either } from "effect"
import type { NatsConnection } from "nats"
import { Subject } from "../src/index.js"
import { streamWarnings } from "../src/internal/NatsPreflight.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

/** Makes a stream by a request as it stands: the client's own types know fewer settings. */
const add = (nc: NatsConnection, config: { readonly name: string } & Record<string, unknown>) =>
  Effect.promise(async () => {
    const answer = (await nc.request(`$JS.API.STREAM.CREATE.${config.name}`, JSON.stringify(config)))
      .json<{ readonly error?: { readonly description: string } }>()
    if (answer.error !== undefined) throw new Error(answer.error.description)
  })

describe.each(T.versions)("A stream that can't be a topic's, on %s", (version) => {
  const servers = sharedServer(version)

  const refusals = (config: (topic: string) => { readonly name: string } & Record<string, unknown>, reason: string) =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const topic = T.topic()
      yield* add(nc, config(topic.name))
      for (const streams of ["create", "validate"] as const) {
        const service = yield* T.transport(servers(), { streams })
        const [published] = yield* service.publish(topic, [T.message(0)], { timeout: Duration.seconds(5) })
        for (
          const error of [
            Either.getOrThrow(Either.flip(published!)),
            yield* Effect.flip(service.subscribe(T.request(topic), new T.TestConsumer()))
          ]
        ) {
          assert.strictEqual(error._tag, "InvalidConfiguration")
          assert.include(error.message, reason)
        }
      }
    }))

  it("a mirror that has the topic's name is refused with the reason", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      yield* add(nc, { name: "origin", subjects: ["origin.>"] })
    })).then(() =>
      refusals((topic) => ({ name: Subject.toStream(topic), mirror: { name: "origin" } }), `is a mirror of "origin"`)
    ))

  it("so is one that confirms nothing; update puts it right", async () => {
    await refusals((topic) => ({ name: Subject.toStream(topic), subjects: [topic], no_ack: true }), "no_ack")
    await T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const topic = T.topic()
      yield* add(nc, { name: Subject.toStream(topic.name), subjects: [topic.name], no_ack: true })
      yield* T.publish(yield* T.transport(servers(), { streams: "update" }), topic, [T.message(0)])
    }))
  })

  it.runIf(version === "2.15")("so is one that stores what it gets under another subject", () =>
    refusals(
      (topic) => ({
        name: Subject.toStream(topic),
        subjects: [topic],
        subject_transform: { src: topic, dest: `x.${topic}` }
      }),
      "(subject_transform)"
    ))

  it("one that stores others elsewhere is as good as any", () =>
    T.run(Effect.gen(function*() {
      if (version === "2.9") return
      const nc = yield* T.client(servers())
      const topic = T.topic()
      yield* add(nc, {
        name: Subject.toStream(topic.name),
        subjects: [topic.name, `other.${topic.name}`],
        subject_transform: { src: `other.${topic.name}`, dest: `x.${topic.name}` }
      })
      const service = yield* T.transport(servers())
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
    })))
})

describe("Asynchronous persistence", () => {
  it("is warned of", () => {
    const config = { name: "s", storage: "file", num_replicas: 3, duplicate_window: 120e9, persist_mode: "async" }
    assert.match(streamWarnings("envelope", config).join(), /^persist_mode async/)
  })
})
