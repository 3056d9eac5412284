/** The first use of a topic in a cluster that has just come back, and does not know yet who is who. */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import * as Client from "../src/internal/Client.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaTopics from "../src/KafkaTopics.js"
import { driver } from "./driver.js"
import { API_VERSIONS, serve, versions } from "./fakeServer.js"

const METADATA = 3
const CREATE_TOPICS = 19
const CREATE_PARTITIONS = 37

const int16 = (value: number) => Buffer.from([(value >> 8) & 0xff, value & 0xff])
const int32 = (value: number) => Buffer.from([value >> 24, value >> 16, value >> 8, value].map((byte) => byte & 0xff))
const text = (value: string) => Buffer.concat([int16(value.length), Buffer.from(value)])

const topicsAt = Effect.fnUntraced(function*(address: string, options: Partial<KafkaConfig.Options> = {}) {
  const settings = yield* KafkaConfig.resolve({ ...options, brokers: [address] })
  const client = yield* Client.make({
    driver,
    brokers: [address],
    clientId: "test",
    connectionTimeoutMs: 5_000,
    requestTimeoutMs: 5_000,
    tls: undefined,
    sasl: undefined
  })
  return yield* KafkaTopics.make(client, settings)
})

/** Version 1. The brokers have the numbers from 1 on; `leader` is the number of the one that leads the topic's partition. */
const metadata = (ports: ReadonlyArray<number>, controller: number, topic: string, exists: boolean, leader = 1) =>
  Buffer.concat([
    int32(ports.length),
    ...ports.flatMap((port, i) => [int32(i + 1), text("127.0.0.1"), int32(port), int16(-1)]),
    int32(controller),
    int32(1),
    int16(exists ? 0 : 3),
    text(topic),
    Buffer.of(0),
    ...(exists
      ? [int32(1), int16(0), int32(0), int32(leader), int32(1), int32(leader), int32(1), int32(leader)]
      : [int32(0)])
  ])

/** With one broker, which is the controller; before it is up none is known. */
const metadataOfOne = (port: number, isUp: boolean, topic: string, exists: boolean) =>
  metadata(isUp ? [port] : [], isUp ? 1 : -1, topic, exists)

/** Version 1: an error with a message. */
const created = (topic: string, code: number, message: string) =>
  Buffer.concat([int32(1), text(topic), int16(code), text(message)])

it.scopedLive("waits while there is no controller, and while all brokers are fenced", () =>
  Effect.gen(function*() {
    let port = 0
    let looks = 0
    let creations = 0
    const server = yield* serve(({ apiKey }) => {
      if (apiKey === API_VERSIONS) return versions({ [METADATA]: 1, [CREATE_TOPICS]: 1 })
      if (apiKey === METADATA) return metadataOfOne(port, looks++ >= 4, "orders", creations === 3)
      const code = creations++ < 2 ? 38 : 0
      return created("orders", code, "Unable to replicate the partition 1 time(s): All brokers are currently fenced.")
    })
    port = Number(server.address.split(":")[1])
    const topics = yield* topicsAt(server.address)
    const topic = yield* topics.ensure({ name: "orders", kind: "envelope" })
    expect(topic.leaders).toEqual([1])
    expect(creations).toBe(3)
  }))

it.scopedLive("a number of replicas that no cluster of this size can have is an error at once", () =>
  Effect.gen(function*() {
    let port = 0
    const server = yield* serve(({ apiKey }) => {
      if (apiKey === API_VERSIONS) return versions({ [METADATA]: 1, [CREATE_TOPICS]: 1 })
      if (apiKey === METADATA) return metadataOfOne(port, true, "orders", false)
      return created(
        "orders",
        38,
        "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached"
      )
    })
    port = Number(server.address.split(":")[1])
    const topics = yield* topicsAt(server.address)
    expect(yield* Effect.flip(topics.ensure({ name: "orders", kind: "envelope" }))).toMatchObject({
      type: "INVALID_REPLICATION_FACTOR"
    })
  }))

it.scopedLive("partitions are added when there is a controller again", () =>
  Effect.gen(function*() {
    let port = 0
    let looks = 0
    let isAdded = false
    const server = yield* serve(({ apiKey }) => {
      if (apiKey === API_VERSIONS) return versions({ [METADATA]: 1, [CREATE_PARTITIONS]: 0 })
      if (apiKey === METADATA) return metadataOfOne(port, looks++ >= 4, "orders", true)
      isAdded = true
      return Buffer.concat([int32(0), created("orders", 0, "")])
    })
    port = Number(server.address.split(":")[1])
    const topics = yield* topicsAt(server.address, { topics: "create-or-update" })
    yield* topics.ensure({ name: "orders", kind: "envelope", partitions: 2 })
    expect(isAdded).toBe(true)
  }))

/** With KRaft the broker that is named is any that the cluster believes to be alive; each carries requests on to the controller. */
it.scopedLive("a broker that resets connections is named as the controller: another one is asked to make the topic", () =>
  Effect.gen(function*() {
    const resets = createServer((socket) => void socket.resetAndDestroy())
    const dead = yield* Effect.acquireRelease(
      Effect.async<number>((resume) => {
        resets.listen(0, "127.0.0.1", () => resume(Effect.succeed((resets.address() as AddressInfo).port)))
      }),
      () => Effect.sync(() => void resets.close())
    )
    let port = 0
    let creations = 0
    const server = yield* serve(({ apiKey }) => {
      if (apiKey === API_VERSIONS) return versions({ [METADATA]: 1, [CREATE_TOPICS]: 1 })
      if (apiKey === METADATA) return metadata([dead, port], 1, "orders", creations > 0, 2)
      creations++
      return created("orders", 0, "")
    })
    port = Number(server.address.split(":")[1])
    const topics = yield* topicsAt(server.address)
    expect((yield* topics.ensure({ name: "orders", kind: "envelope" })).leaders).toEqual([2])
    expect(creations).toBe(1)
  }))
