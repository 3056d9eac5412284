/** How connections say who we are, before a broker that the test plays. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Redacted, Schedule } from "effect"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { ConnectionOptions } from "node:tls"
import * as Client from "../src/internal/Client.js"
import type { Driver } from "../src/internal/Driver.js"
import { disconnected } from "../src/internal/Failure.js"
import * as Security from "../src/internal/Security.js"
import type * as KafkaConfig from "../src/KafkaConfig.js"
import { driver } from "./driver.js"
import type { Asked } from "./fakeServer.js"
import { API_VERSIONS, serve } from "./fakeServer.js"
import { eventually } from "./Harness.js"

const SASL_HANDSHAKE = 17
const SASL_AUTHENTICATE = 36
const HEARTBEAT = 12

const int16 = (value: number) => Buffer.from([value >> 8, value & 0xff])
const int32 = (value: number) => Buffer.from([value >> 24, value >> 16, value >> 8, value])
const int64 = (value: number) => Buffer.concat([int32(0), int32(value)])
const text = (value: string) => Buffer.concat([int16(value.length), Buffer.from(value)])

const versions = Buffer.concat([
  int16(0),
  int32(3),
  ...[[SASL_HANDSHAKE, 1], [SASL_AUTHENTICATE, 2], [HEARTBEAT, 1]].flatMap(([key, newest]) => [
    int16(key!),
    int16(0),
    int16(newest!)
  ])
])

/** What a client says, as text, and how it is answered: in version 2 there are fields of later versions. */
const saidIn = ({ apiVersion, body }: Asked): string =>
  apiVersion < 2 ? body.subarray(4).toString() : body.subarray(2, -1).toString().replace(/^[^n]*/, "")

const answered = ({ apiVersion }: Asked, code: number, bytes: string, sessionMs: number): Buffer =>
  apiVersion < 2
    ? Buffer.concat([int16(code), int16(-1), int32(bytes.length), Buffer.from(bytes), int64(sessionMs)])
    : Buffer.concat([
      Buffer.of(0),
      int16(code),
      Buffer.of(0, bytes.length + 1),
      Buffer.from(bytes),
      int64(sessionMs),
      Buffer.of(0)
    ])

const broker = (options: {
  readonly mechanism?: string
  readonly sessionMs?: () => number
  readonly refuses?: (said: string) => string | undefined
}) =>
  Effect.gen(function*() {
    const said: Array<string> = []
    const server = yield* serve((asked) => {
      switch (asked.apiKey) {
        case API_VERSIONS:
          return versions
        case SASL_HANDSHAKE:
          return Buffer.concat([int16(0), int32(1), text(options.mechanism ?? "OAUTHBEARER")])
        case SASL_AUTHENTICATE: {
          const words = saidIn(asked)
          said.push(words)
          return answered(asked, 0, options.refuses?.(words) ?? "", options.sessionMs?.() ?? 0)
        }
        default:
          return Buffer.alloc(6)
      }
    })
    return { ...server, said }
  })

const clientOf = (address: string, token: Effect.Effect<KafkaConfig.BearerToken, unknown>, connectionTimeout = 5_000) =>
  Effect.flatMap(
    Security.make({ connectionTimeout, tls: undefined, sasl: { mechanism: "oauthbearer", token } }),
    (security) =>
      Client.make({
        driver,
        brokers: [address],
        clientId: "test",
        connectionTimeoutMs: connectionTimeout,
        requestTimeoutMs: 5_000,
        ...security
      })
  )

/** Tokens that are told from each other. */
const provider = (lifetimeMs: number | undefined) => {
  let asked = 0
  const token = Effect.sync((): KafkaConfig.BearerToken => ({
    value: Redacted.make(`secret-${++asked}`),
    expiresAt: lifetimeMs === undefined ? undefined : Date.now() + lifetimeMs,
    extensions: { logicalCluster: "one" }
  }))
  return { token, asked: () => asked }
}

const heartbeat = (client: Client.Client, role = "heartbeat") =>
  client.call("any", role, "Heartbeat", { group: "g", generation: 1, memberId: "m" })

/** Asks again until it holds. */
const until = (condition: Effect.Effect<boolean>) =>
  condition.pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("20 millis") }),
    Effect.timeout("15 seconds")
  )

describe("a token", () => {
  it.scopedLive("is sent with its extensions, and serves all connections for most of its lifetime", () =>
    Effect.gen(function*() {
      const server = yield* broker({})
      const { asked, token } = provider(60_000)
      const client = yield* clientOf(server.address, token)
      yield* Effect.all([heartbeat(client, "a"), heartbeat(client, "b"), heartbeat(client, "c")], { concurrency: 3 })
      const words = "n,,\u0001auth=Bearer secret-1\u0001logicalCluster=one\u0001\u0001"
      expect(server.said).toEqual([words, words, words])
      expect(asked()).toBe(1)
    }))

  it.scopedLive("is asked for again when four fifths of its lifetime are over, and always where that is not known", () =>
    Effect.gen(function*() {
      const server = yield* broker({})
      const short = provider(500)
      const client = yield* clientOf(server.address, short.token)
      yield* heartbeat(client, "a")
      yield* heartbeat(client, "b")
      expect(short.asked()).toBe(1)
      yield* Effect.sleep(410)
      yield* heartbeat(client, "c")
      expect(short.asked()).toBe(2)
      const unknown = provider(undefined)
      const other = yield* clientOf(server.address, unknown.token)
      yield* heartbeat(other, "a")
      yield* heartbeat(other, "b")
      expect(unknown.asked()).toBe(2)
    }))

  it.scopedLive("that the broker refuses is replaced once; then it is an error, which does not name it", () =>
    Effect.gen(function*() {
      let accepted = "secret-1"
      const status = "{\"status\":\"invalid_token\"}"
      const server = yield* broker({ refuses: (said) => said.includes(accepted) ? undefined : status })
      const { asked, token } = provider(60_000)
      const client = yield* clientOf(server.address, token)
      yield* heartbeat(client, "a")
      accepted = "secret-2"
      yield* heartbeat(client, "b")
      expect(asked()).toBe(2)
      accepted = "none"
      const failure = yield* Effect.flip(heartbeat(client, "c"))
      expect(failure).toMatchObject({ type: "Authentication", sent: false })
      expect(failure.message).toContain("invalid_token")
      expect(JSON.stringify(failure) + failure.message).not.toContain("secret")
      yield* eventually("only the good connections are left", () => server.open() === 2)
    }))

  it.scopedLive("that nobody gives is an outage, and ends when somebody does", () =>
    Effect.gen(function*() {
      const server = yield* broker({})
      const { token } = provider(60_000)
      let isAway = true
      const client = yield* clientOf(
        server.address,
        Effect.suspend(() => isAway ? Effect.fail("the token service is away") : token)
      )
      const failure = yield* Effect.flip(heartbeat(client))
      expect(failure).toMatchObject({ type: "Connection", sent: false })
      expect(failure.message).toContain("token")
      isAway = false
      yield* heartbeat(client)
    }))

  it.scopedLive("that takes too long costs the time to connect, and no more", () =>
    Effect.gen(function*() {
      const server = yield* broker({})
      const interrupted = yield* Deferred.make<void>()
      const never = Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      const client = yield* clientOf(server.address, never, 300)
      expect(yield* Effect.flip(heartbeat(client))).toMatchObject({ type: "Connection", sent: false })
      yield* Deferred.await(interrupted)
      yield* eventually("its connection is closed", () => server.open() === 0)
    }))
})

describe("certificates", () => {
  /** A driver that connects to nothing, and notes what it was given. */
  const noting = (seen: Array<ConnectionOptions | undefined>): Driver => ({
    name: "noting",
    open: (_, { tls }) => {
      seen.push(tls)
      return Promise.reject(disconnected("there is nobody", false))
    }
  })

  const folder = Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "eventbus-tls-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )

  it.scopedLive("that were renewed are used for the next connection; a file that is away for a moment is an outage", () =>
    Effect.gen(function*() {
      const cert = join(yield* folder, "cert.pem")
      const key = Redacted.make("-----BEGIN KEY-----")
      const passphrase = Redacted.make("hunter2")
      const write = (text: string) => Effect.promise(() => writeFile(cert, text))
      yield* write("first")
      const seen: Array<ConnectionOptions | undefined> = []
      const client = yield* Client.make({
        driver: noting(seen),
        brokers: ["broker.example:9093"],
        clientId: "test",
        connectionTimeoutMs: 5_000,
        requestTimeoutMs: 5_000,
        ...(yield* Security.make({ connectionTimeout: 5_000, sasl: undefined, tls: { cert, key, passphrase } }))
      })
      const connect = Effect.flip(client.connect("any", "control"))
      yield* connect
      yield* write("second")
      yield* connect
      const known = { servername: "broker.example", key: "-----BEGIN KEY-----", passphrase: "hunter2" }
      expect(seen).toMatchObject([{ ...known, cert: "first" }, { ...known, cert: "second" }])
      yield* Effect.promise(() => rm(cert))
      expect(yield* connect).toMatchObject({ type: "Connection", sent: false })
      expect(seen).toHaveLength(2)
      yield* write("third")
      yield* connect
      expect(seen[2]).toMatchObject({ cert: "third" })
    }))

  it.scopedLive("that can't be read at the start are a wrong setting; the name of the server can be another", () =>
    Effect.gen(function*() {
      const make = (tls: KafkaConfig.Tls) => Security.make({ connectionTimeout: 5_000, sasl: undefined, tls })
      expect(yield* Effect.flip(make({ ca: "/no/such/file" }))).toMatchObject({ _tag: "InvalidConfiguration" })
      const { tls } = yield* make({ servername: "kafka.internal" })
      expect(yield* Effect.promise(tls!)).toMatchObject({ servername: "kafka.internal" })
    }))
})

describe("a session that the broker ends", () => {
  it.scopedLive("is prolonged on the same connection, before it is over, and nothing is sent meanwhile", () =>
    Effect.gen(function*() {
      const server = yield* broker({ sessionMs: () => 500 })
      const { token } = provider(60_000)
      const client = yield* clientOf(server.address, token)
      yield* heartbeat(client)
      yield* until(Effect.map(Effect.orDie(heartbeat(client)), () => server.said.length >= 3))
      expect(new Set(server.asked.map(({ connection }) => connection)).size).toBe(1)
      const keys = server.asked.map(({ apiKey }) => apiKey)
      keys.forEach((key, i) => {
        if (key === SASL_HANDSHAKE) expect(keys[i + 1]).toBe(SASL_AUTHENTICATE)
      })
      const times = keys.filter((key) => key === SASL_AUTHENTICATE).length
      expect(keys.filter((key) => key === HEARTBEAT).length).toBeGreaterThan(times)
    }))

  it.scopedLive("ends its connection where the broker refuses to prolong it; the next one is made anew", () =>
    Effect.gen(function*() {
      let isOver = false
      const status = "{\"status\":\"invalid_token\"}"
      const server = yield* broker({ sessionMs: () => 500, refuses: () => isOver ? status : undefined })
      const { token } = provider(60_000)
      const client = yield* clientOf(server.address, token)
      yield* heartbeat(client)
      isOver = true
      yield* until(Effect.isFailure(heartbeat(client)))
      isOver = false
      yield* until(Effect.isSuccess(heartbeat(client)))
      yield* eventually("one connection is left", () => server.open() === 1)
    }))
})
