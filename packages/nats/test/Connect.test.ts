import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { ConfigProvider, Duration, Effect, Either, Fiber, Layer, Redacted } from "effect"
import { nkeys } from "nats"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { NatsConfig, NatsConfigSpec, NatsTransport } from "../src/index.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")
const file = (name: string) => fileURLToPath(new URL(`./tls/${name}`, import.meta.url))

const failure = (options: NatsConfig.Options) =>
  Effect.map(Effect.either(NatsTransport.make(options)), (result) => Either.getOrThrow(Either.flip(result)))

/** Connects and publishes once. */
const works = (options: NatsConfig.Options) =>
  Effect.gen(function*() {
    const service = yield* NatsTransport.make(options)
    yield* T.publish(service, T.topic("plain"), [T.message(0)])
  })

describe("Connecting", () => {
  it("an unreachable server is an error within the bounds", () =>
    T.run(Effect.gen(function*() {
      const start = performance.now()
      const error = yield* failure({ servers: ["127.0.0.1:1"], connectAttempts: 2 })
      assert.strictEqual(error._tag, "BrokerUnreachable")
      assert.include(error.message, "127.0.0.1:1")
      // An address that answers nothing at all.
      const silent = yield* failure({ servers: ["192.0.2.1:4222"], connectAttempts: 2, connectTimeout: "300 millis" })
      assert.strictEqual(silent._tag, "BrokerUnreachable")
      assert.isBelow(performance.now() - start, 8_000)
    })))

  it("a server without JetStream is an error that says so", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server("2.15", "accounts { PLAIN { users: [{ user: p, password: p }] } }")
      const error = yield* failure({ servers: server.servers, user: "p", password: Redacted.make("p") })
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.include(error.message, "JetStream")
    })))

  it("settings that can't be are refused, each with its reason", () =>
    T.run(Effect.gen(function*() {
      const error = yield* failure({
        servers: [],
        replicas: 7,
        maxInFlight: 0,
        ackWait: "10 millis",
        token: Redacted.make("t"),
        user: "u",
        tlsCertFile: "x"
      })
      for (const part of ["servers", "replicas", "maxInFlight", "ackWait", "user and token", "tlsKeyFile"]) {
        assert.include(error.message, part)
      }
      // As those write it who have no types.
      const untyped = {
        servers: [""],
        streams: "nope",
        replicas: 2.5,
        maxBytes: -4,
        maxAge: "x",
        stream: "s",
        token: "hunter2",
        password: Redacted.make("p")
      } as unknown as NatsConfig.Options
      const issues = yield* failure(untyped)
      for (
        const part of ["servers", "streams", "replicas", "maxBytes", "maxAge", "stream: unknown", "token", "nats.user"]
      ) {
        assert.include(issues.message, part)
      }
      assert.notInclude(issues.message, "hunter2")
      assert.include((yield* failure({ servers, tlsCaFile: "/nowhere.pem" })).message, "/nowhere.pem")
      assert.include((yield* failure({ servers, credentialsFile: "/nowhere.creds" })).message, "credentialsFile")
      assert.include((yield* failure({ servers, credentials: Redacted.make("bad") })).message, "credentials")
      const seed = yield* failure({ servers, nkeySeed: Redacted.make("SUBAD") })
      assert.notInclude(seed.message, "SUBAD")
    })))

  it("by user and password, token, or NKey; not without", () =>
    T.run(Effect.gen(function*() {
      const user = nkeys.createUser()
      const seed = Redacted.make(new TextDecoder().decode(user.getSeed()))
      const byUser = yield* T.server("2.15", `authorization { user: u, password: secret }`)
      yield* works({ servers: byUser.servers, user: "u", password: Redacted.make("secret") })
      const refused = yield* failure({
        servers: byUser.servers,
        user: "u",
        password: Redacted.make("wrong"),
        connectAttempts: 1
      })
      assert.strictEqual(refused._tag, "BrokerUnreachable")
      assert.notInclude(JSON.stringify(refused), "wrong")
      const byToken = yield* T.server("2.9", `authorization { token: "secret" }`)
      yield* works({ servers: byToken.servers, token: Redacted.make("secret") })
      const byKey = yield* T.server("2.9", `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`)
      yield* works({ servers: byKey.servers, nkeySeed: seed })
    })))

  it("over TLS, with a certificate of the client's own where the server demands it", () =>
    T.run(Effect.gen(function*() {
      const tls = `tls { cert_file: "${file("cert.pem")}", key_file: "${file("key.pem")}", ca_file: "${
        file("ca.pem")
      }", verify: true }`
      const server = yield* T.server("2.15", tls)
      const named = server.servers.map((address) => address.replace("127.0.0.1", "localhost"))
      const own = { tlsCertFile: file("cert.pem"), tlsKeyFile: file("key.pem") }
      yield* works({ servers: named, tlsCaFile: file("ca.pem"), ...own })
      const untrusted = yield* failure({ servers: named, tls: true, connectAttempts: 1, ...own })
      assert.strictEqual(untrusted._tag, "BrokerUnreachable")
    })))
})

describe("Configuration", () => {
  it("the driver makes the transport from the environment, and knows every key", () =>
    T.run(Effect.gen(function*() {
      const env = new Map([
        ["EVENTBUS_NATS_SERVERS", servers.join(",")],
        ["EVENTBUS_NATS_ACK_WAIT", "5 seconds"],
        ["EVENTBUS_NATS_PLAIN_STORAGE", "file"],
        ["EVENTBUS_NATS_MAX_IN_FLIGHT", "10"]
      ])
      const values = yield* ConfigSpec.load(NatsTransport.driver.spec).pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(env, { pathDelim: "_", seqDelim: "," }))
      )
      const options = NatsConfigSpec.fromValues(values)
      assert.deepStrictEqual(options.servers, servers)
      const settings = yield* NatsConfig.resolve(options)
      assert.include(settings, { ackWait: 5_000, plainStorage: "file", maxInFlight: 10, storage: "file" })
      yield* Effect.scoped(Layer.build(NatsTransport.driver.layer(values)))
      assert.isTrue(Duration.isDuration(values["nats.ackWait"]))
    })))
})

describe.each(T.versions)("Closing on %s", (version) => {
  it("leaves no handle: the process ends by itself, and what was not finished comes again", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const topic = T.topic()
      const child = yield* T.child("closing.ts", server.servers[0]!, topic.name)
      yield* T.waitUntil("it closed", () => child.lines().includes("closed") || child.code() !== undefined)
      const closed = performance.now()
      yield* T.waitUntil("it ended", () => child.code() !== undefined)
      assert.strictEqual(child.errors(), "")
      assert.strictEqual(child.code(), 0)
      assert.isBelow(performance.now() - closed, 4_000)
      const service = yield* T.transport(server.servers)
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("the rest came", () => consumer.taken.length >= 450)
      assert.lengthOf(consumer.taken, 450)
    })))

  it("is done in one time while the server stands still, whatever there is to do", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const proxy = yield* TcpProxy.make({ port: Number(server.servers[0]!.split(":")[1]) })
      const topics = T.range(0, 3).map(() => ({ ...T.topic(), partitions: 4 }))
      const consumers = topics.map(() => new T.TestConsumer({ onMessage: () => {} }))
      const one = yield* T.scoped(Effect.gen(function*() {
        const service = yield* T.transport([proxy.address], { closeTimeout: "2 seconds", deleteConsumers: true })
        for (const [i, topic] of topics.entries()) {
          yield* T.publish(service, topic, T.messages(0, 40))
          yield* service.subscribe(T.request(topic), consumers[i]!)
        }
        return service
      }))
      yield* T.waitUntil("all came", () => consumers.every(({ taken }) => taken.length === 40))
      yield* proxy.blackhole
      const publishing = yield* Effect.fork(
        one.value.publish(topics[0]!, T.messages(40, 50), { timeout: Duration.seconds(30) })
      )
      for (const { assignments, taken } of consumers) {
        for (const message of taken) {
          for (const assignment of assignments) {
            if (assignment.partition === message.partition) assignment.finish(message)
          }
        }
      }
      const start = performance.now()
      yield* one.close
      assert.isBelow(performance.now() - start, 4_500)
      const [result] = yield* Fiber.join(publishing)
      assert.deepInclude({ ...Either.getOrThrow(Either.flip(result!)) }, { _tag: "PublishFailed", outcome: "unknown" })
    })))

  it("is done in time while the server is away", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const topic = T.topic()
      const consumer = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(Effect.gen(function*() {
        const service = yield* T.transport(server.servers, { closeTimeout: "500 millis" })
        yield* T.publish(service, topic, T.messages(0, 10))
        return yield* service.subscribe(T.request(topic), consumer)
      }))
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      yield* server.nodes[0]!.kill
      for (const message of consumer.taken) consumer.finish(message)
      const start = performance.now()
      yield* one.close
      assert.isBelow(performance.now() - start, 4_500)
    })))
})
