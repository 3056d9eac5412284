import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { vi } from "vitest"
import * as Client from "../src/internal/Client.js"
import { driver } from "./driver.js"
import { API_VERSIONS, serve, versions } from "./fakeServer.js"
import { eventually } from "./Harness.js"

const METADATA = 3
const HEARTBEAT = 12
const alive = Buffer.alloc(6)

const clientOf = (brokers: ReadonlyArray<string>, more: Partial<Client.ClientOptions> = {}) =>
  Client.make({
    driver,
    brokers,
    clientId: "test",
    connectionTimeoutMs: 5_000,
    requestTimeoutMs: 10_000,
    tls: undefined,
    sasl: undefined,
    ...more
  })

const heartbeat = (client: Client.Client, timeoutMs?: number) =>
  client.call("any", "heartbeat", "Heartbeat", { group: "g", generation: 1, memberId: "m" }, timeoutMs)

const took = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const begun = performance.now()
    return [yield* effect, performance.now() - begun] as const
  })

it.scopedLive("a request's deadline counts also where it is shorter than the one of other requests, and ends its connection", () =>
  Effect.gen(function*() {
    const server = yield* serve(({ apiKey }) => apiKey === API_VERSIONS ? versions({ [HEARTBEAT]: 1 }) : undefined)
    const client = yield* clientOf([server.address])
    const [failure, millis] = yield* took(Effect.flip(heartbeat(client, 300)))
    expect(failure).toMatchObject({ type: "Timeout", sent: true })
    expect(millis).toBeGreaterThan(290)
    expect(millis).toBeLessThan(2_500)
    yield* eventually("its connection is closed", () => server.open() === 0)
  }))

it.scopedLive("connecting has one deadline for all of it: a broker that accepts and stays silent costs that and no more", () =>
  Effect.gen(function*() {
    const server = yield* serve(() => undefined)
    const client = yield* clientOf([server.address], { connectionTimeoutMs: 400 })
    const [failure, millis] = yield* took(Effect.flip(client.connect("any", "control")))
    expect(failure).toMatchObject({ type: "Connection", sent: false })
    expect(millis).toBeLessThan(2_500)
    yield* eventually("its connection is closed", () => server.open() === 0)
  }))

it.scopedLive("whoever did not answer is asked last", () =>
  Effect.gen(function*() {
    let isSilent = false
    const first = yield* serve(({ apiKey }) =>
      isSilent ? undefined : apiKey === API_VERSIONS ? versions({ [HEARTBEAT]: 1 }) : alive
    )
    const second = yield* serve(({ apiKey }) => apiKey === API_VERSIONS ? versions({ [HEARTBEAT]: 1 }) : alive)
    const client = yield* clientOf([first.address, second.address])
    yield* heartbeat(client)
    expect(second.asked).toEqual([])
    isSilent = true
    // It is found out once, and the other one answers.
    yield* heartbeat(client, 300)
    const before = first.asked.length
    const [, millis] = yield* took(heartbeat(client))
    expect(millis).toBeLessThan(2_500)
    expect(first.asked).toHaveLength(before)
  }))

/** Version 1: one broker, no topics. */
const metadata = (port: number) => {
  const host = "127.0.0.1"
  const bytes = Buffer.alloc(18 + host.length + 8)
  bytes.writeInt32BE(1, 0)
  bytes.writeInt32BE(1, 4)
  bytes.writeInt16BE(host.length, 8)
  bytes.write(host, 10)
  bytes.writeInt32BE(port, 10 + host.length)
  bytes.writeInt16BE(-1, 14 + host.length)
  bytes.writeInt32BE(1, 16 + host.length)
  return bytes
}

it.scopedLive("a broker that the cluster does not have any more is not away for ever", () =>
  Effect.gen(function*() {
    const gone = yield* Effect.scoped(Effect.map(serve(() => undefined), ({ address }) => address))
    let port = 0
    const server = yield* serve(({ apiKey }) =>
      apiKey === API_VERSIONS ? versions({ [METADATA]: 1 }) : apiKey === METADATA ? metadata(port) : undefined
    )
    port = Number(server.address.split(":")[1])
    const states: Array<string> = []
    const client = yield* clientOf([gone, server.address], {
      onState: ({ _tag, unreachable }) => void states.push(`${_tag} ${unreachable.length}`)
    })
    yield* client.metadata(["orders"])
    expect(states).toEqual(["Disconnected 1", "Connected 0"])
  }))

it.scopedLive("what a broker wants held back waits its time, whoever sets the clock, and is not late for that", () =>
  Effect.gen(function*() {
    const asked: Array<number> = []
    const server = yield* serve(({ apiKey }) => {
      if (apiKey === API_VERSIONS) return versions({ [HEARTBEAT]: 1 })
      asked.push(performance.now())
      const answer = Buffer.alloc(6)
      if (asked.length === 1) answer.writeInt32BE(600, 0)
      return answer
    })
    const client = yield* clientOf([server.address])
    yield* heartbeat(client)
    yield* Effect.acquireRelease(
      Effect.sync(() => vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_600_000 })),
      () => Effect.sync(() => vi.useRealTimers())
    )
    // It has less time than it is held back.
    yield* heartbeat(client, 400)
    expect(asked[1]! - asked[0]!).toBeGreaterThan(590)
  }))

it.scopedLive("whoever ends while requests are held back waits for nothing", () =>
  Effect.gen(function*() {
    const throttled = Buffer.alloc(6)
    throttled.writeInt32BE(60_000, 0)
    const server = yield* serve(({ apiKey }) => apiKey === API_VERSIONS ? versions({ [HEARTBEAT]: 1 }) : throttled)
    const [, millis] = yield* took(Effect.scoped(Effect.gen(function*() {
      const client = yield* clientOf([server.address])
      yield* heartbeat(client)
      yield* Effect.fork(heartbeat(client))
      yield* Effect.sleep(50)
    })))
    expect(millis).toBeLessThan(2_500)
    yield* eventually("its connection is closed", () => server.open() === 0)
  }))
