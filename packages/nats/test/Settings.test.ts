import * as Servers from "@effect-eventbus/brokers/Nats"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Redacted } from "effect"
import type { NatsConnection } from "nats"
import { Expected, MessageTtl, NatsConfig, Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

/** What a request is answered; the client's own types know fewer settings. */
const ask = (nc: NatsConnection, endpoint: string, body?: object) =>
  Effect.promise(async () =>
    (await nc.request(`$JS.API.${endpoint}`, body === undefined ? "" : JSON.stringify(body)))
      .json<{ readonly config: Record<string, unknown>; readonly state: { readonly messages: number } }>()
  )

const metadata = ["team=payments", "formula=a=b"]

const publishOne = (options: NatsConfig.Options, servers: ReadonlyArray<string>, topic = T.topic()) =>
  Effect.gen(function*() {
    const service = yield* T.transport(servers, options)
    const [result] = yield* service.publish(topic, [T.message(0)], { timeout: Duration.seconds(10) })
    return { service, topic, result: result! }
  })

describe.each(T.versions)("What users of JetStream set, on %s", (version) => {
  const servers = sharedServer(version)
  const isNew = version === "2.15"

  it("a stream is made with limits of a message and of a subject, a placement, metadata and TTLs of messages", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const options: NatsConfig.Options = {
        discard: "new",
        maxMessageSize: 5_000,
        maxMessagesPerSubject: 2,
        ...(isNew ? { messageTtl: true, streamMetadata: metadata } : {})
      }
      const { service, topic } = yield* publishOne(options, servers())
      const { config } = yield* ask(nc, `STREAM.INFO.${Subject.toStream(topic.name)}`)
      assert.deepInclude(config, { max_msg_size: 5_000, max_msgs_per_subject: 2, discard_new_per_subject: true })
      if (isNew) {
        assert.strictEqual(config["allow_msg_ttl"], true)
        assert.deepInclude(config["metadata"], { team: "payments", formula: "a=b" })
      }
      const refused = yield* service.publish(topic, [{ ...T.message(1), value: new Uint8Array(6_000) }], {
        timeout: Duration.seconds(10)
      })
      assert.strictEqual(Either.getOrThrow(Either.flip(refused[0]!))._tag, "MessageTooLarge")
      const [second, third] = yield* service.publish(topic, T.messages(2, 4), { timeout: Duration.seconds(10) })
      assert.isTrue(Either.isRight(second!))
      assert.deepInclude(Either.getOrThrow(Either.flip(third!)), { reason: "StorageFull", outcome: "not-written" })
    })))

  it("validate names what differs, and update changes it; the entries of others stay", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const topic = T.topic()
      const name = Subject.toStream(topic.name)
      yield* ask(nc, `STREAM.CREATE.${name}`, {
        name,
        subjects: [topic.name],
        ...(isNew ? { metadata: { theirs: "1", team: "else" } } : {})
      })
      const options: NatsConfig.Options = {
        maxMessageSize: 5_000,
        maxMessagesPerSubject: 2,
        ...(isNew ? { messageTtl: true, streamMetadata: metadata } : {})
      }
      const { result } = yield* publishOne({ ...options, streams: "validate" }, servers(), topic)
      const error = Either.getOrThrow(Either.flip(result))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.include(error.message, "has max_msg_size -1, but 5000 is configured")
      assert.include(error.message, "has max_msgs_per_subject -1, but 2 is configured")
      if (isNew) {
        assert.match(error.message, /has allow_msg_ttl (false|undefined), but true/)
        assert.include(error.message, "\"team\":\"payments\"")
      }
      yield* publishOne({ ...options, streams: "update" }, servers(), topic)
      const { config } = yield* ask(nc, `STREAM.INFO.${name}`)
      assert.deepInclude(config, { max_msg_size: 5_000, max_msgs_per_subject: 2 })
      if (isNew) assert.deepInclude(config["metadata"], { theirs: "1", team: "payments", formula: "a=b" })
      const again = yield* publishOne({ ...options, streams: "validate" }, servers(), topic)
      assert.isTrue(Either.isRight(again.result))
    })))

  it("a consumer has its replicas and metadata, also where it was made without", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers())
      const topic = T.topic()
      const durable = Either.getOrThrow(Subject.toDurable("group", topic.name))
      const plain = yield* T.scoped(Effect.flatMap(
        T.transport(servers()),
        (service) => service.subscribe(T.request(topic), new T.TestConsumer())
      ))
      yield* plain.close
      const service = yield* T.transport(servers(), {
        consumerReplicas: 1,
        ...(isNew ? { consumerMetadata: metadata } : {})
      })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      const { config } = yield* ask(nc, `CONSUMER.INFO.${Subject.toStream(topic.name)}.${durable}`)
      if (isNew) assert.deepInclude(config["metadata"], { team: "payments", formula: "a=b" })
      // More than the stream has are refused with the reason.
      const more = yield* T.transport(servers(), { consumerReplicas: 3 })
      const error = yield* Effect.flip(more.subscribe(T.request(topic, { group: "other" }), new T.TestConsumer()))
      assert.strictEqual(error._tag, "InvalidConfiguration")
    })))

  it.runIf(isNew)(
    "a message with a TTL expires; one whose stream does not allow it is refused",
    () =>
      T.run(Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const topic = T.topic()
        const service = yield* T.transport(servers(), { messageTtl: true })
        yield* T.publish(service, topic, [
          { ...T.message(0), headers: MessageTtl.after("1 second") },
          { ...T.message(1), headers: MessageTtl.never },
          T.message(2)
        ])
        const consumer = new T.TestConsumer()
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.waitUntil("they came", () => consumer.taken.length === 3)
        // Who publishes it again, as a dead letter, does not let it expire.
        for (const { headers } of consumer.taken) assert.notProperty(headers, "Nats-TTL")
        yield* T.waitUntil("one has expired", async () => {
          const { state } = await Effect.runPromise(ask(nc, `STREAM.INFO.${Subject.toStream(topic.name)}`))
          return state.messages === 2
        })
        const plain = yield* T.transport(servers())
        const [refused] = yield* plain.publish(
          T.topic(),
          [{ ...T.message(0), headers: MessageTtl.after("1 second") }],
          { timeout: Duration.seconds(5) }
        )
        assert.deepInclude(Either.getOrThrow(Either.flip(refused!)), { reason: "Rejected", outcome: "not-written" })
      }))
  )

  it("what is expected of several subjects is kept, or refused by a server that would not look", () =>
    T.run(Effect.gen(function*() {
      const topic = { ...T.topic(), partitions: 2 }
      const service = yield* T.transport(servers())
      const [first] = yield* T.publish(service, topic, [T.message(0, "a")])
      const all = `${topic.name}.*.*`
      const publish = (n: number, aggregate: string, headers: Record<string, string>) =>
        Effect.map(
          service.publish(topic, [{ ...T.message(n, aggregate), headers: { ...headers } }], {
            timeout: Duration.seconds(5)
          }),
          ([result]) => result!
        )
      const kept = yield* publish(1, "b", Expected.lastSequenceOf(all, first!.offset) as Record<string, string>)
      if (!isNew) {
        const error = Either.getOrThrow(Either.flip(kept))
        assert.strictEqual(error._tag, "InvalidMessage")
        assert.include(error.message, "needs nats-server 2.11")
        return
      }
      assert.isTrue(Either.isRight(kept))
      const broken = yield* publish(2, "c", Expected.lastSequenceOf(all, first!.offset) as Record<string, string>)
      assert.deepInclude(Either.getOrThrow(Either.flip(broken)), {
        reason: "WrongLastSequence",
        outcome: "not-written"
      })
    })))

  it.runIf(!isNew)(
    "what this server would ignore is refused when the transport is made",
    () =>
      T.run(Effect.gen(function*() {
        for (
          const options of [{ streamMetadata: metadata }, { consumerMetadata: metadata }, { messageTtl: true }]
        ) {
          const error = yield* Effect.flip(T.transport(servers(), options))
          assert.strictEqual(error._tag, "InvalidConfiguration")
          assert.match(error.message, /needs nats-server 2\.1[01], and .* is of 2\.9/)
        }
        const service = yield* T.transport(servers())
        const [result] = yield* service.publish(
          T.topic(),
          [{ ...T.message(0), headers: MessageTtl.after("1 hour") }],
          { timeout: Duration.seconds(5) }
        )
        assert.strictEqual(Either.getOrThrow(Either.flip(result!))._tag, "InvalidMessage")
      }))
  )
})

describe("Settings of NATS that can't be", () => {
  it.each<readonly [NatsConfig.Options, RegExp]>([
    [{ streamMetadata: ["team"] }, /streamMetadata: expected name=value/],
    [{ consumerMetadata: ["_nats.level=1"] }, /consumerMetadata: names that begin with _nats/],
    [{ consumerReplicas: 6 }, /consumerReplicas: expected 1 to 5/],
    [{ apiPrefix: "$JS.API." }, /apiPrefix: expected words/],
    [{ inboxPrefix: "_INBOX." }, /inboxPrefix: expected words/],
    [{ inboxPrefix: "an inbox" }, /inboxPrefix: expected words/],
    [{ inboxPrefix: "*" }, /inboxPrefix: expected words/],
    [{ domain: "*" }, /domain: expected words/],
    [{ domain: "a hub" }, /domain: expected words/],
    [{ apiPrefix: "hub.API", domain: "hub" }, /domain and apiPrefix are set/],
    [{ servers: ["wss://somewhere:443"] }, /can't connect by WebSocket/]
  ])("%j", (options, reason) => {
    const resolved = NatsConfig.resolve(options)
    assert.match(Either.getOrThrow(Either.flip(resolved)).message, reason)
  })
})

describe.each(T.versions)("On three servers of %s", (version) => {
  it(
    "streams are where their placement says, and consumers have their own number of replicas",
    () =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const { servers } = yield* Servers.make({ version, nodes: 3, own: true, config: "server_tags: [\"ssd\"]" })
          const nc = yield* T.client(servers)
          const placed = yield* publishOne({ replicas: 3, placementTags: ["ssd"] }, servers)
          const name = Subject.toStream(placed.topic.name)
          assert.deepStrictEqual((yield* ask(nc, `STREAM.INFO.${name}`)).config["placement"], { tags: ["ssd"] })
          const same = yield* publishOne({ streams: "validate", placementTags: ["ssd"] }, servers, placed.topic)
          assert.isTrue(Either.isRight(same.result))
          const moved = yield* publishOne({ streams: "validate", placementTags: ["hdd"] }, servers, placed.topic)
          assert.include(
            Either.getOrThrow(Either.flip(moved.result)).message,
            `has placement {"tags":["ssd"]}, but {"tags":["hdd"]} is configured`
          )
          const nowhere = yield* publishOne({ replicas: 3, placementTags: ["hdd"] }, servers)
          assert.strictEqual(Either.getOrThrow(Either.flip(nowhere.result))._tag, "InvalidConfiguration")

          const service = yield* T.transport(servers, { replicas: 3, consumerReplicas: 1 })
          const consumer = new T.TestConsumer()
          yield* service.subscribe(T.request(placed.topic), consumer)
          yield* T.waitUntil("it is read", () => consumer.taken.length > 0)
          const durable = Either.getOrThrow(Subject.toDurable("group", placed.topic.name))
          assert.strictEqual((yield* ask(nc, `CONSUMER.INFO.${name}.${durable}`)).config["num_replicas"], 1)
          assert.isTrue(lines.some((line) => line.includes("consumerReplicas 1 where the stream has 3")))
        })
      ),
    90_000
  )
})

describe.each(T.versions)("JetStream of another account, on %s", (version) => {
  const config = `
    accounts {
      HUB {
        jetstream: enabled
        users: [{ user: hub, password: hub }]
        exports: [
          { service: "$JS.API.>", response_type: stream }
          { service: "$JS.ACK.>" }
          { service: "$KV.eventbus-leases.>" }
          { service: "test.>" }
        ]
      }
      APP {
        users: [{ user: app, password: app }]
        imports: [
          { service: { account: HUB, subject: "$JS.API.>" }, to: "JS.hub.API.>" }
          { service: { account: HUB, subject: "$JS.ACK.>" } }
          { service: { account: HUB, subject: "$KV.eventbus-leases.>" }, to: "JS.hub.API.$KV.eventbus-leases.>" }
          { service: { account: HUB, subject: "test.>" } }
        ]
      }
    }`

  it("is used by its prefix: streams, consumers, acknowledgements and leases", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version, config)
      const login = (name: string) => ({ user: name, password: Redacted.make(name) })
      const app = yield* T.transport(servers, { ...login("app"), apiPrefix: "JS.hub.API" })
      const hub = yield* T.transport(servers, login("hub"))
      const topic = T.topic()
      const [first, second] = [new T.TestConsumer(), new T.TestConsumer()]
      const one = yield* T.scoped(app.subscribe(T.request(topic), first))
      yield* T.publish(app, topic, T.messages(0, 100))
      yield* T.waitUntil("the account's instance has them", () => first.taken.length === 100)
      yield* one.close
      yield* hub.subscribe(T.request(topic), second)
      yield* T.publish(hub, topic, T.messages(100, 200))
      yield* T.waitUntil("the hub's instance has the rest", () => second.taken.length === 100)
      T.assertNumbers(T.ascending(second.numbers), T.range(100, 200))
      const without = yield* Effect.flip(T.transport(servers, login("app")))
      assert.strictEqual(without._tag, "InvalidConfiguration")
    })), 60_000)
})
