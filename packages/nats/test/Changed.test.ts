import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { type ConsumerConfig, headers, type NatsConnection } from "nats"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

const durableOf = (topic: string) => Either.getOrThrow(Subject.toDurable("group", topic))

/** Sends a request as it stands: the client's own types know fewer settings. */
const ask = (nc: NatsConnection, endpoint: string, body?: object) =>
  Effect.promise(async () => {
    const answer = (await nc.request(`$JS.API.${endpoint}`, body === undefined ? "" : JSON.stringify(body)))
      .json<{ readonly error?: { readonly description: string }; readonly config: Record<string, unknown> }>()
    if (answer.error !== undefined) throw new Error(answer.error.description)
    return answer
  })

/** Changes a consumer as `nats consumer edit` does. */
const edit = (nc: NatsConnection, topic: string, change: Record<string, unknown>) =>
  Effect.gen(function*() {
    const stream = Subject.toStream(topic)
    const name = durableOf(topic)
    const { config } = yield* ask(nc, `CONSUMER.INFO.${stream}.${name}`)
    const changed = { ...config, ...change }
    yield* ask(nc, `CONSUMER.CREATE.${stream}.${name}.${String(changed["filter_subject"])}`, {
      stream_name: stream,
      config: changed
    })
  })

const sized = headers()
sized.set("Nats-Msg-Size", "5")

describe.each(T.versions)("A consumer that is changed while it is read, on %s", (version) => {
  const servers = sharedServer(version)

  const changes: ReadonlyArray<Record<string, unknown>> = [
    { max_ack_pending: 1 },
    { ack_wait: 1e9 },
    { max_deliver: 1 },
    { headers_only: true },
    { max_batch: 1 },
    { max_bytes: 1_000 },
    { max_expires: 1e9 }
  ]

  it("is put right, and that is said", () => {
    return T.runRemembering((lines) =>
      Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const service = yield* T.transport(servers())
        const one = (change: Record<string, unknown>) =>
          Effect.gen(function*() {
            const topic = T.topic()
            const consumer = new T.TestConsumer()
            yield* service.subscribe(T.request(topic), consumer)
            yield* T.publish(service, topic, T.messages(0, 10))
            yield* T.waitUntil("the first came", () => consumer.taken.length === 10)
            yield* edit(nc, topic.name, change)
            const [[name, value]] = Object.entries(change) as [[string, unknown]]
            const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
            yield* T.waitUntil(`${name} is put right`, async () => {
              const { config } = await Effect.runPromise(info)
              return config[name as keyof ConsumerConfig] !== value
            })
            yield* T.waitUntil(
              "it is said",
              () => lines.some((line) => line.includes(`has ${name} ${value} instead of`) && line.includes(topic.name))
            )
            yield* T.publish(service, topic, T.messages(10, 20))
            yield* T.waitUntil("the next came", () => consumer.taken.length === 20)
            T.assertNoViolations(consumer)
          })
        yield* Effect.forEach(changes, one, { concurrency: "unbounded", discard: true })
      })
    )
  }, 60_000)

  it(
    "messages that come without their bodies meanwhile are not handed over, and come again with them",
    () =>
      T.run(Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const service = yield* T.transport(servers())
        const topic = T.topic()
        const consumer = new T.TestConsumer()
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.publish(service, topic, T.messages(0, 10))
        yield* T.waitUntil("the first came", () => consumer.taken.length === 10)
        yield* edit(nc, topic.name, { headers_only: true })
        yield* T.publish(service, topic, [
          ...T.messages(10, 60),
          // One that has none, and one that another client has published with the header that says how large it is.
          { ...T.message(60), value: new Uint8Array(0) }
        ])
        nc.publish(topic.name, "", { headers: sized })
        yield* T.publish(service, topic, T.messages(62, 100))
        yield* T.waitUntil("the rest came", () => consumer.taken.length >= 100)
        // The number of an empty body is 0.
        T.assertNumbers(consumer.numbers, [...T.range(0, 60), 0, 0, ...T.range(62, 100)])
      })),
    60_000
  )

  it("is refused where it may not be changed, and where its position is worth nothing any more", () => {
    return T.runRemembering((lines) =>
      Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const validating = yield* T.transport(servers(), { consumers: "validate" })
        const [kept, moved] = [T.topic(), T.topic("envelope", "moved")]
        const ofKept = new T.TestConsumer()
        yield* validating.subscribe(T.request(kept), ofKept)
        const service = yield* T.transport(servers(), { sharedStreams: [`${moved.name}.>`] })
        const [first, second] = [{ ...moved, name: `${moved.name}.a` }, { ...moved, name: `${moved.name}.b` }]
        const ofMoved = new T.TestConsumer()
        yield* service.subscribe(T.request(first), ofMoved)
        yield* T.publish(service, first, T.messages(0, 10))
        yield* T.waitUntil("the first came", () => ofMoved.taken.length === 10)

        yield* edit(nc, kept.name, { ack_wait: 5e9 })
        const stream = Subject.toStream(`${moved.name}.>`)
        const name = durableOf(first.name)
        const { config } = yield* ask(nc, `CONSUMER.INFO.${stream}.${name}`)
        // What servers change, and what is passed over meanwhile.
        yield* ask(nc, `CONSUMER.CREATE.${stream}.${name}.${second.name}`, {
          stream_name: stream,
          config: { ...config, filter_subject: second.name }
        })
        yield* T.publish(service, first, T.messages(10, 20))
        const refusedBy = (text: string) => T.waitUntil(text, () => lines.some((line) => line.includes(text)), 30_000)
        yield* refusedBy("has ack_wait 5000000000 instead of 30000000000")
        yield* refusedBy("this process then makes it anew at sequence 11")
        const another = yield* T.transport(servers(), { sharedStreams: [`${moved.name}.>`] })
        const error = yield* Effect.flip(
          another.subscribe(T.request(first), new T.TestConsumer())
        )
        assert.strictEqual(error._tag, "InvalidConfiguration")
        assert.include(error.message, "subscribe with startFrom")
        // As it is told to.
        yield* ask(nc, `CONSUMER.DELETE.${stream}.${name}`)
        yield* T.waitUntil("what was passed over came", () => ofMoved.taken.length === 20)
        T.assertNumbers(ofMoved.numbers, T.range(0, 20))
        T.assertNoViolations(ofMoved)
      })
    )
  }, 90_000)

  it.runIf(version === "2.15")("a pause is said, and so is its end", () => {
    return T.runRemembering((lines) =>
      Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const service = yield* T.transport(servers())
        const topic = T.topic()
        const consumer = new T.TestConsumer()
        const source = yield* service.subscribe(T.request(topic), consumer)
        const endpoint = `CONSUMER.PAUSE.${Subject.toStream(topic.name)}.${durableOf(topic.name)}`
        yield* ask(nc, endpoint, { pause_until: new Date(Date.now() + 3_600_000).toISOString() })
        yield* T.waitUntil("it is said", () => lines.some((line) => line.includes("paused the consumer")))
        const [problem] = (yield* source.status!).problems
        assert.match(problem!.message, /somebody has paused its consumer on the server until \d{4}-/)
        yield* T.publish(service, topic, T.messages(0, 10))
        // Who begins meanwhile waits, and goes on with what was outstanding.
        const other = new T.TestConsumer()
        const group = T.request(topic, { group: "other" })
        const durable = Either.getOrThrow(Subject.toDurable("other", topic.name))
        yield* T.scoped(service.subscribe(group, new T.TestConsumer({ onMessage: () => {} }))).pipe(
          Effect.tap(() =>
            T.waitUntil("ten are outstanding", async () => {
              const info = await Effect.runPromise(T.consumerInfo(nc, Subject.toStream(topic.name), durable))
              return info.num_ack_pending === 10
            })
          ),
          Effect.flatMap(({ close }) => close)
        )
        const otherEndpoint = `CONSUMER.PAUSE.${Subject.toStream(topic.name)}.${durable}`
        yield* ask(nc, otherEndpoint, { pause_until: new Date(Date.now() + 3_600_000).toISOString() })
        const ofOther = yield* service.subscribe(group, other)
        yield* T.waitUntil(
          "it is said of the other",
          () => lines.filter((line) => line.includes("paused the consumer")).length === 2
        )
        assert.lengthOf(consumer.taken, 0)
        assert.lengthOf(other.taken, 0)
        assert.lengthOf((yield* ofOther.status!).problems, 1)
        for (const one of [endpoint, otherEndpoint]) yield* ask(nc, one, {})
        yield* T.waitUntil("it goes on", () => consumer.taken.length === 10 && other.taken.length === 10)
        T.assertNumbers(other.numbers, T.range(0, 10))
        yield* T.waitUntil("it is said", () => lines.some((line) => line.includes("not paused any more")))
        yield* T.waitUntil("it is no problem any more", async () => {
          const all = await Promise.all([source, ofOther].map(({ status }) => Effect.runPromise(status!)))
          return all.every(({ problems }) => problems.length === 0)
        })
      })
    )
  }, 60_000)
})

describe("A consumer that was made by others", () => {
  const servers = sharedServer("2.15")

  const made = (config: Record<string, unknown>, filter = true) =>
    Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const topic = T.topic()
      const service = yield* T.transport(servers())
      yield* T.publish(service, topic, T.messages(0, 10))
      const stream = Subject.toStream(topic.name)
      const durable_name = durableOf(topic.name)
      yield* ask(nc, `CONSUMER.DURABLE.CREATE.${stream}.${durable_name}`, {
        stream_name: stream,
        config: {
          durable_name,
          ack_policy: "explicit",
          ...(filter ? { filter_subject: topic.name } : {}),
          ...config
        }
      })
      return { nc, service, stream, topic, durable_name }
    })

  it.each<Record<string, unknown>>([
    { headers_only: true },
    { max_batch: 1, max_bytes: 100, max_expires: 1e9 },
    { mem_storage: true },
    { priority_groups: ["A"], priority_policy: "pinned_client", priority_timeout: 5e9 }
  ])("is put right, or refused with the reason: %j", (config) =>
    T.run(Effect.gen(function*() {
      const { durable_name, nc, service, stream, topic } = yield* made(config)
      const consumer = new T.TestConsumer()
      const refused = yield* Effect.either(service.subscribe(T.request(topic), consumer))
      if (Either.isLeft(refused)) {
        assert.strictEqual(refused.left._tag, "InvalidConfiguration")
        assert.include(refused.left.message, `has ${Object.keys(config).find((name) => name !== "priority_groups")}`)
        assert.include(refused.left.message, "the server does not change that")
        return
      }
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      T.assertNumbers(consumer.numbers, T.range(0, 10))
      const info = yield* T.consumerInfo(nc, stream, durable_name)
      for (const [name, value] of Object.entries(config)) {
        assert.notDeepEqual(info.config[name as keyof ConsumerConfig], value, name)
      }
    })))

  it("is refused where the server pushes its messages", () =>
    T.run(Effect.gen(function*() {
      const { service, topic } = yield* made({ deliver_subject: "somewhere" })
      const error = yield* Effect.flip(service.subscribe(T.request(topic), new T.TestConsumer()))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.include(error.message, "push consumer")
    })))
})
