import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Schedule, Scope } from "effect"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import { Kafka, Nats, TcpProxy } from "../src/index.js"
import * as KafkaProbe from "../src/KafkaProbe.js"
import * as NatsProbe from "../src/NatsProbe.js"
import { processesWith } from "./fixture.js"

const portOf = (address: string) => Number(address.split(":")[1])

/** One request over NATS's text protocol, with the reply's payload. */
const natsRequest = (address: string, subject: string, payload: string) =>
  Effect.async<string, Error>((resume) => {
    const socket = connect(portOf(address), "127.0.0.1")
    const body = Buffer.byteLength(payload)
    let text = ""
    socket.write(
      `CONNECT {"verbose":false}\r\nSUB reply 1\r\nPUB ${subject} reply ${body}\r\n${payload}\r\nPING\r\n`
    )
    socket.on("data", (chunk) => {
      text += chunk.toString("utf8")
      const message = /MSG reply 1 +\d+\r\n(.*)\r\n/.exec(text)
      if (message !== null) {
        resume(Effect.succeed(message[1]!))
        socket.destroy()
      }
    })
    socket.once("error", (cause) => resume(Effect.fail(cause)))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeout("5 seconds"))

const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("eventbus-"))

/** Below a temporary folder of their own: other tests bring up brokers meanwhile. */
const before = process.env["TMPDIR"]
beforeAll(() => {
  process.env["TMPDIR"] = mkdtempSync(join(tmpdir(), "clusters-"))
})
afterAll(() => {
  rmSync(process.env["TMPDIR"]!, { recursive: true, force: true })
  if (before === undefined) delete process.env["TMPDIR"]
  else process.env["TMPDIR"] = before
})

describe("Clusters", () => {
  it.live("Kafka, NATS 2.15 and NATS 2.9 come up together, answer, and leave nothing", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const [kafka, today, oldest] = yield* Effect.all([
        Kafka.make({ own: true }),
        Nats.make({ own: true }),
        Nats.make({ version: "2.9" })
      ], { concurrency: "unbounded" }).pipe(Scope.extend(scope))
      const made = folders()
      assert.lengthOf(made, 3)

      const metadata = yield* KafkaProbe.metadata(portOf(kafka.bootstrap[0]!))
      assert.deepStrictEqual(metadata.brokers, [1])
      assert.match((yield* NatsProbe.info(portOf(today.servers[0]!))).version, /^2\.15\./)
      assert.match((yield* NatsProbe.info(portOf(oldest.servers[0]!))).version, /^2\.9\./)

      const stream = JSON.stringify({ name: "S", subjects: ["s.>"], storage: "file" })
      yield* natsRequest(oldest.servers[0]!, "$JS.API.STREAM.CREATE.S", stream)
      assert.include(yield* natsRequest(oldest.servers[0]!, "s.a", "one"), "\"seq\":1")

      const node = oldest.nodes[0]!
      yield* node.kill
      assert.strictEqual((yield* Effect.either(NatsProbe.info(portOf(node.address))))._tag, "Left")
      // As a finalizer does.
      yield* Effect.uninterruptible(node.start)
      assert.include(yield* natsRequest(node.address, "s.a", "two"), "\"seq\":2")

      const broker = kafka.nodes[0]!
      yield* broker.suspend
      assert.strictEqual((yield* Effect.either(KafkaProbe.metadata(portOf(broker.address))))._tag, "Left")
      yield* broker.resume
      yield* Effect.all([broker.stop, today.nodes[0]!.stop], { concurrency: "unbounded" })
      yield* Effect.all([broker.start, today.nodes[0]!.start], { concurrency: "unbounded" })
      assert.strictEqual((yield* KafkaProbe.metadata(portOf(broker.address))).clusterId, metadata.clusterId)

      yield* Scope.close(scope, Exit.void)
      for (const name of made) assert.isEmpty(processesWith(name))
      for (const name of made) assert.isFalse(existsSync(`${tmpdir()}/${name}`))
    }), 240_000)

  it.live("a cluster of three outlives one", () =>
    Effect.gen(function*() {
      const [kafka, nats] = yield* Effect.all([Kafka.make({ nodes: 3, proxied: true }), Nats.make({ nodes: 3 })], {
        concurrency: "unbounded"
      })
      assert.lengthOf(kafka.bootstrap, 3)
      yield* Effect.all([kafka.nodes[0]!.kill, nats.nodes[0]!.kill], { concurrency: "unbounded" })
      const left = yield* KafkaProbe.metadata(kafka.proxies[1]!.port).pipe(
        Effect.filterOrFail(({ brokers }) => brokers.length === 2, () => "still listed"),
        Effect.retry(Schedule.spaced("50 millis")),
        Effect.timeout("60 seconds")
      )
      assert.sameMembers([...left.brokers], [2, 3])
      yield* Effect.all([kafka.nodes[0]!.start, nats.nodes[0]!.start], { concurrency: "unbounded" })
      const all = yield* KafkaProbe.metadata(kafka.proxies[0]!.port)
      assert.include(all.brokers, 1)
    }).pipe(Effect.scoped), 240_000)

  it.live("a start that fails says what the broker said", () =>
    Effect.gen(function*() {
      const errors = yield* Effect.all([
        Effect.flip(Kafka.make({ config: { "num.io.threads": "none" } })),
        Effect.flip(Nats.make({ config: "nonsense {" }))
      ], { concurrency: "unbounded" })
      for (const error of errors) {
        assert.strictEqual(error._tag, "BrokerError")
        assert.strictEqual(error.reason, "Exited")
      }
      assert.include(errors[0].message, "num.io.threads")
      assert.include(errors[1].message, "Parse error")
    }).pipe(Effect.scoped), 60_000)

  it.live("a proxy cuts, refuses and holds", () =>
    Effect.gen(function*() {
      const nats = yield* Nats.make({ own: true })
      const proxy = yield* TcpProxy.make({ port: portOf(nats.servers[0]!) })
      const ask = Effect.either(NatsProbe.info(proxy.port))
      const open = (count: number) =>
        Effect.repeat(proxy.connections, { schedule: Schedule.spaced("5 millis"), until: (now) => now === count }).pipe(
          Effect.timeout("5 seconds")
        )
      assert.strictEqual((yield* ask)._tag, "Right")
      yield* proxy.refuse
      assert.strictEqual((yield* ask)._tag, "Left")
      yield* proxy.accept
      yield* proxy.delay(300)
      const [took] = yield* Effect.timed(ask)
      assert.isAtLeast(Duration.toMillis(took), 290)
      yield* proxy.delay(0)
      yield* open(0)
      yield* proxy.blackhole
      const silent = yield* Effect.fork(ask)
      yield* open(1)
      yield* proxy.flow
      assert.strictEqual((yield* silent)._tag, "Right")
      yield* open(0)
      yield* proxy.blackhole
      const held = yield* Effect.fork(ask)
      yield* open(1)
      yield* proxy.cut
      assert.strictEqual((yield* held)._tag, "Left")
    }).pipe(Effect.scoped), 30_000)
})
