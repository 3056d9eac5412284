import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber } from "effect"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { headers as natsHeaders, type NatsConnection } from "nats"
import { inject } from "vitest"
import { type NatsConfig, Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const servers = inject("natsServers")

/** How many messages of the stream have this id. */
const count = (nc: NatsConnection, topic: string, id: string) =>
  Effect.promise(async () => {
    const manager = await nc.jetstreamManager()
    const stream = Subject.toStream(topic)
    const { state } = await manager.streams.info(stream)
    let found = 0
    for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
      const { header } = await manager.streams.getMessage(stream, { seq })
      if (header.get("Nats-Msg-Id") === `${topic}/${id}`) found++
    }
    return found
  })

/** The stream forgets all ids that it has, because an operator shortens its window. */
const forget = (nc: NatsConnection, topic: string) =>
  Effect.gen(function*() {
    const probe = natsHeaders()
    probe.set("Nats-Msg-Id", "probe")
    const isKnown = async () => (await nc.jetstream().publish(topic, "", { headers: probe })).duplicate
    yield* Effect.promise(isKnown)
    yield* Effect.promise(async () =>
      (await nc.jetstreamManager()).streams.update(Subject.toStream(topic), { duplicate_window: 100e6 })
    )
    yield* T.waitUntil("the ids are forgotten", async () => !(await isKnown()))
  })

/** A message is stored, and its acknowledgements are lost until the stream has forgotten its id; then `later` happens. */
const scene = (options: NatsConfig.Options, timeout: number, later: (cut: () => void) => void) =>
  T.run(Effect.gen(function*() {
    const way = yield* wire(servers[0]!)
    const service = yield* T.transport([way.address], options)
    const topic = T.topic()
    yield* T.publish(service, topic, [T.message(0)])
    const nc = yield* T.client(servers)
    way.toClient = (chunk) => chunk.includes("\"seq\":") ? Buffer.alloc(0) : chunk
    const publishing = yield* Effect.fork(service.publish(topic, [T.message(1)], { timeout: Duration.millis(timeout) }))
    yield* T.waitUntil(
      "the message is stored",
      async () => (await Effect.runPromise(count(nc, topic.name, "event-1"))) > 0
    )
    yield* forget(nc, topic.name)
    way.toClient = (chunk) => chunk
    later(way.cut)
    const [result] = yield* Fiber.join(publishing)
    const written = yield* count(nc, topic.name, "event-1")
    const told = Either.isRight(result!) ? "written" : result!.left._tag === "PublishFailed" && result!.left.outcome
    // The way is free.
    yield* T.publish(service, topic, [T.message(2, "a-1")])
    return { told, written }
  }))

describe("A duplicate window that was shortened meanwhile", () => {
  it("is noticed when the connection is back: what the stream may have is not sent again, and its outcome is unknown", async () => {
    assert.deepStrictEqual(await scene({}, 10_000, (cut) => cut()), { told: "unknown", written: 1 })
  })

  it("is noticed when an acknowledgement is overdue", async () => {
    assert.deepStrictEqual(await scene({ ackTimeout: "300 millis" }, 4_000, () => {}), { told: "unknown", written: 1 })
  })
})
