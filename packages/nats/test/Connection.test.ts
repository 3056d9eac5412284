import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { Observer, Transport } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Duration, Effect, Either, Layer, Redacted, Stream } from "effect"
import { nkeys } from "nats"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { inject } from "vitest"
import { NatsConnection, NatsTransport, Subject } from "../src/index.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")
const portOf = (address: string) => Number(address.split(":")[1])

type KeyPair = ReturnType<typeof nkeys.createUser>

describe("The state of the connection", () => {
  it("is told by a stream and by a callback, while the transport reconnects through all servers", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const told: Array<string> = []
      const seen: Array<string> = []
      const observed: Array<Observer.Event> = []
      const context = yield* Layer.build(
        NatsTransport.layer({
          servers: ["127.0.0.1:1", proxy.address],
          reconnectWait: "20 millis",
          onConnectionState: ({ _tag }) =>
            Effect.sync(() => told.push(_tag)).pipe(Effect.zipRight(Effect.die("ignored")))
        }).pipe(Layer.provide(Observer.layer({ event: (event) => void observed.push(event) })))
      )
      const connection = yield* NatsConnection.NatsConnection.pipe(Effect.provide(context))
      const service = yield* Transport.Transport.pipe(Effect.provide(context))
      yield* connection.changes.pipe(
        Stream.runForEach(({ _tag, server }) => Effect.sync(() => seen.push(`${_tag} ${server}`))),
        Effect.forkScoped
      )
      assert.deepStrictEqual(yield* connection.state, { _tag: "Connected", server: proxy.address })
      yield* T.waitUntil("the state is there", () => seen.length === 1)
      yield* proxy.cut
      yield* T.waitUntil("it is back", () => told.length >= 2 && told[told.length - 1] === "Connected")
      yield* T.publish(service, T.topic("plain"), [T.message(0)])
      yield* T.waitUntil("the stream has told it, too", () => seen.length === told.length + 1)
      assert.deepStrictEqual(told.slice(0, 2), ["Disconnected", "Connected"])
      assert.deepStrictEqual(
        observed.slice(0, 3).map((event) => "transport" in event && { _tag: event._tag, transport: event.transport }),
        (["Connected", "Disconnected", "Connected"] as const).map((_tag) => ({ _tag, transport: "nats" }))
      )
      assert.deepStrictEqual(
        seen.slice(0, 3),
        ["Connected", "Disconnected", "Connected"].map((tag) => `${tag} ${proxy.address}`)
      )
    })))

  it("a server in lame duck mode says so, and consumption goes on when it is back", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server("2.15", `lame_duck_grace_period: "100ms"`)
      const node = server.nodes[0]!
      const topic = T.topic()
      const told: Array<string> = []
      const service = yield* T.transport(server.servers, {
        onConnectionState: ({ _tag }) => Effect.sync(() => told.push(_tag))
      })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(service, topic, T.messages(0, 100))
      yield* node.lameDuck
      yield* T.waitUntil("it is gone", () => told.includes("Disconnected"))
      yield* node.stop
      yield* node.start
      yield* T.publish(service, topic, T.messages(100, 200))
      yield* T.waitUntil("all came", () => consumer.taken.length >= 200)
      T.assertNumbers(consumer.numbers, T.range(0, 200))
      T.assertNoViolations(consumer)
      assert.deepStrictEqual(told.slice(0, 2), ["LameDuck", "Disconnected"])
      assert.strictEqual(told[told.length - 1], "Connected")
    })))
})

describe("Credentials and domains", () => {
  it("a JWT with its seed, as text or as a file; not that of a stranger", () =>
    T.run(Effect.gen(function*() {
      const [operator, system, account, user, stranger] = [
        nkeys.createOperator(),
        nkeys.createAccount(),
        nkeys.createAccount(),
        nkeys.createUser(),
        nkeys.createAccount()
      ]
      const all = {
        limits: {
          subs: -1,
          data: -1,
          payload: -1,
          imports: -1,
          exports: -1,
          wildcards: true,
          conn: -1,
          leaf: -1,
          mem_storage: -1,
          disk_storage: -1,
          streams: -1,
          consumer: -1
        }
      }
      const config = `operator: ${jwt(operator, operator, "operator", { system_account: system.getPublicKey() })}
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload: {
  ${system.getPublicKey()}: ${jwt(operator, system, "account", {})}
  ${account.getPublicKey()}: ${jwt(operator, account, "account", all)}
}`
      const credentialsBy = (issuer: KeyPair) =>
        `-----BEGIN NATS USER JWT-----
${jwt(issuer, user, "user", { subs: -1, data: -1, payload: -1 })}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${new TextDecoder().decode(user.getSeed())}
------END USER NKEY SEED------
`
      const server = yield* T.server("2.15", config)
      const file = join(yield* T.folder, "user.creds")
      writeFileSync(file, credentialsBy(account))
      for (const login of [{ credentials: Redacted.make(credentialsBy(account)) }, { credentialsFile: file }]) {
        const service = yield* T.transport(server.servers, login)
        yield* T.publish(service, T.topic("plain"), [T.message(0)])
      }
      const refused = yield* Effect.either(
        T.transport(server.servers, { credentials: Redacted.make(credentialsBy(stranger)), connectAttempts: 1 })
      )
      assert.strictEqual(Either.getOrThrow(Either.flip(refused))._tag, "BrokerUnreachable")
    })))

  it.each(T.versions)("a JetStream domain on %s, with a take-over", (version) =>
    T.run(Effect.gen(function*() {
      const store = yield* T.folder
      const { servers } = yield* T.server(version, `jetstream { domain: hub, store_dir: "${store}" }`)
      const topic = T.topic()
      const service = yield* T.transport(servers, { domain: "hub" })
      yield* T.publish(service, topic, T.messages(0, 50))
      const first = new T.TestConsumer({
        onMessage: (message, consumer) => {
          if (T.numberOf(message) % 2 === 0) consumer.finish(message)
        }
      })
      const one = yield* T.scoped(service.subscribe(T.request(topic), first))
      yield* T.waitUntil("all came", () => first.taken.length === 50)
      yield* one.close
      const second = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), second)
      yield* T.publish(service, topic, T.messages(50, 60))
      yield* T.waitUntil("the rest came", () => second.taken.length >= 35)
      T.assertNumbers(second.numbers, T.range(0, 60).filter((n) => n >= 50 || n % 2 === 1))
      const elsewhere = yield* Effect.either(T.transport(servers, { domain: "other", requestTimeout: "300 millis" }))
      assert.strictEqual(Either.getOrThrow(Either.flip(elsewhere))._tag, "InvalidConfiguration")
      assert.strictEqual(Subject.toStream(topic.name).includes("."), false)
    })))
})

describe("A publish whose acknowledgement got lost", () => {
  it("is acknowledged when it is repeated, also where it expects a last sequence", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address], { ackTimeout: "100 millis" })
      const topic = T.topic()
      const [first] = yield* T.publish(service, topic, [T.message(0)])
      const nc = yield* T.client(servers)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      // Answers are late; the message arrives.
      yield* proxy.delay(150)
      const [receipt] = yield* service.publish(
        topic,
        [{ ...T.message(1), headers: { "Nats-Expected-Last-Subject-Sequence": String(first!.offset) } }],
        { timeout: Duration.seconds(20) }
      )
      assert.strictEqual(Either.getOrThrow(receipt!).offset, first!.offset + 1)
      yield* proxy.flow
      const info = yield* Effect.promise(() => jsm.streams.info(Subject.toStream(topic.name)))
      assert.strictEqual(info.state.messages, 2)
    })))
})

/** A token of NATS's decentralized authentication. */
const jwt = (issuer: KeyPair, subject: KeyPair, type: string, nats: object): string => {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const body = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${
    part({
      jti: `${type}-1`,
      iat: 1_700_000_000,
      iss: issuer.getPublicKey(),
      name: type,
      sub: subject.getPublicKey(),
      nats: { ...nats, type, version: 2 }
    })
  }`
  return `${body}.${Buffer.from(issuer.sign(new TextEncoder().encode(body))).toString("base64url")}`
}
