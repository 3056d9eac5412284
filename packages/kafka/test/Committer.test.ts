/** Commits before a coordinator that refuses them, on virtual time. */
import type { Transport } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect, Logger, LogLevel, TestClock } from "effect"
import * as Committer from "../src/internal/Committer.js"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { Fetched } from "../src/internal/Fetched.js"
import type { CommitRequest } from "../src/internal/GroupDriver.js"
import * as Lasting from "../src/internal/Lasting.js"
import { Lineage } from "../src/internal/Lineage.js"
import { MetadataRoom } from "../src/internal/MetadataRoom.js"
import { Partition } from "../src/internal/Partition.js"

const message = (partition: number, offset: number): Transport.IncomingMessage => ({
  topic: "orders",
  partition,
  offset,
  key: null,
  value: null,
  headers: {},
  timestamp: 0,
  maybeDuplicate: false,
  deliveryCount: undefined
})

const fetched = (messages: Array<Transport.IncomingMessage>, next: number): Fetched => ({
  get left() {
    return messages.length
  },
  next,
  epochs: [],
  bytes: 0,
  take: (max) => messages.splice(0, max)
})

const REFUSED = 30
const REBALANCE = 27
const TOO_LARGE = 12

const setUp = (ids: ReadonlyArray<number>, codeOf: (commit: CommitRequest) => number | KafkaFailure) =>
  Effect.gen(function*() {
    const sent: Array<CommitRequest> = []
    const partitions = new Map<number, Partition>()
    const handled: Array<string> = []
    const committer = yield* Committer.make({
      send: (commits) =>
        Effect.suspend(() => {
          sent.push(...commits)
          const codes = commits.map((commit) => [commit.partition, codeOf(commit)] as const)
          const failure = codes.map(([, code]) => code).find((code) => code instanceof KafkaFailure)
          return failure === undefined
            ? Effect.succeed(new Map(codes as Array<[number, number]>))
            : Effect.fail(failure)
        }),
      partitions,
      settings: { commitInterval: 1_000, requestTimeout: 10_000, sessionTimeout: 20_000 },
      lasting: yield* Lasting.make,
      room: new MetadataRoom(),
      onUncertain: Effect.void
    })
    for (const id of ids) {
      const partition = new Partition({
        topic: "orders",
        topicId: "0123456789abcdef0123456789abcdef",
        partition: id,
        epoch: 7,
        start: 0,
        finished: [],
        duplicatesBelow: 0,
        lineage: new Lineage(-1),
        leaderEpoch: -1,
        now: () => 0,
        maxAboveWatermark: 10_000,
        maxUnfinished: 1_000,
        commitMessages: 1_000,
        onRoom: () => {},
        onChange: () => committer.changed(),
        onCommit: () => {},
        atMostOnce: false,
        isAlive: () => true,
        settle: () => Effect.void
      })
      partition.open({
        offer: (messages) => {
          for (const one of messages) {
            handled.push(`${one.partition}/${one.offset}`)
            // One is never finished: what is finished above it goes into the metadata.
            if (one.offset !== 0) queueMicrotask(() => partition.assignment.finish(one))
          }
          return messages.length
        },
        close: () => Effect.succeed({ unfinished: 0, lost: 0 })
      })
      partitions.set(id, partition)
    }
    yield* Effect.forkScoped(committer.run)
    /** Each second a message of each partition that takes one. */
    const seconds = (count: number) =>
      Effect.forEach(
        Array.from({ length: count }),
        () =>
          Effect.zipRight(
            Effect.sync(() => {
              for (const partition of partitions.values()) {
                const at = partition.fetchOffset
                if (partition.canFetch) partition.accept(fetched([message(partition.id, at)], at + 1))
              }
            }),
            TestClock.adjust("1 seconds")
          ),
        { discard: true }
      )
    return { sent, handled, seconds, of: (id: number) => handled.filter((one) => one.startsWith(`${id}/`)).length }
  })

const logged = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (LogLevel.greaterThanEqual(logLevel, LogLevel.Warning)) lines.push(String(message))
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

it.scoped("rules 5 and 14: where commits are refused, it is said, and handling stops until they succeed", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    let isRefused = true
    const { of, seconds } = yield* setUp([0, 1], ({ partition }) => partition === 0 && isRefused ? REFUSED : 0)
    yield* seconds(30)
    expect(of(0)).toBeGreaterThan(8)
    expect(of(0)).toBeLessThan(15)
    // The other one's commits are confirmed.
    expect(of(1)).toBe(30)
    expect(lines[0]).toContain("Nothing can be committed for partition 0 (the user is not authorized for the group)")
    isRefused = false
    yield* seconds(5)
    expect(lines.at(-1)).toContain("It is over")
    expect(lines.at(-1)).toContain("nothing more of these partitions is handled until commits succeed")
    yield* seconds(10)
    expect(of(0)).toBeGreaterThan(20)
  }).pipe(Effect.provide(layer))
})

it.scoped("a group that settles after a crash may refuse commits for a session; only then handling stops", () =>
  Effect.gen(function*() {
    let code = 0
    const { of, seconds } = yield* setUp([0], () => code)
    code = REBALANCE
    yield* seconds(18)
    expect(of(0)).toBe(18)
    code = 0
    yield* seconds(5)
    code = REBALANCE
    yield* seconds(40)
    expect(of(0)).toBeLessThan(18 + 5 + 25)
  }))

it.scoped("a broker that does not answer commits, for longer than a session, stops handling, too", () =>
  Effect.gen(function*() {
    const failure = new KafkaFailure({ type: "Timeout", sent: true, cause: "silence" })
    const { of, seconds } = yield* setUp([0], () => failure)
    yield* seconds(40)
    expect(of(0)).toBeGreaterThan(18)
    expect(of(0)).toBeLessThan(25)
  }))

it.scoped("metadata that the broker finds too large becomes shorter, and it is said what that means", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    const { seconds, sent } = yield* setUp([0], ({ metadata }) => metadata.length > 20 ? TOO_LARGE : 0)
    yield* seconds(20)
    expect(sent.some(({ metadata }) => metadata.length > 20)).toBe(true)
    expect(sent.at(-1)!.metadata.length).toBeLessThanOrEqual(20)
    expect(lines.every((line) => line.includes("offset.metadata.max.bytes"))).toBe(true)
    expect(lines.length).toBeGreaterThan(0)
    const { length } = lines
    yield* seconds(20)
    expect(lines).toHaveLength(length)
  }).pipe(Effect.provide(layer))
})
