/** What one owner had confirmed the next one reads, whoever leads the partition by then. */
import type { Transport } from "@effect-eventbus/core"
import { KafkaStore } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Fiber, Stream } from "effect"
import { describe, expect } from "vitest"
import { eventually, ownCluster, spec, text, topicName, transport, withAdmin } from "./Harness.js"

const timeout = Duration.seconds(60)
const ROUNDS = 4

const leaderOf = (topic: string, brokers: ReadonlyArray<string>) =>
  withAdmin(
    async (admin) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions[0]!.leader,
    brokers
  )

describe("a store on three brokers", () => {
  const cluster = ownCluster({ nodes: 3, config: { "broker.session.timeout.ms": "3000" } })
  const connect = Effect.suspend(() =>
    transport({
      brokers: cluster().bootstrap,
      requestTimeout: Duration.seconds(3),
      connectionTimeout: Duration.seconds(2),
      topicDefaults: { replicationFactor: 3, minInsyncReplicas: 2 }
    })
  ).pipe(Effect.retry({ times: 4 }))

  it.scopedLive(
    "whose leaders are killed or suspended keeps what was confirmed, and no older value comes behind a newer one",
    () =>
      Effect.gen(function*() {
        const request = { topic: spec(topicName(), 1), group: "owners", name: "n" }
        const name = KafkaStore.topicOf({ topic: request.topic.name, group: "owners", name: "n" })
        const owner = yield* (yield* connect).store!(request)
        const next = yield* (yield* connect).store!(request)
        let confirmed = -1
        let tried = -1
        const writing = yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
          const value = String(++tried)
          // The same value again, until it is confirmed, as an owner does.
          for (;;) {
            const results = yield* owner.write(0, [{ key: "n", value: Buffer.from(value) }], {
              timeout: Duration.seconds(2)
            })
            if (results.every(Either.isRight)) break
          }
          confirmed = Number(value)
        })))
        const entries = (store: Transport.Store) => Effect.map(Stream.runCollect(store.read(0)), Chunk.toReadonlyArray)
        for (let round = 0; round < ROUNDS; round++) {
          const before = confirmed
          yield* eventually("it is written", () => confirmed > before + 50, timeout)
          const leader = yield* leaderOf(name, cluster().bootstrap)
          const node = cluster().nodes.find(({ id }) => id === leader)!
          yield* Effect.scoped(Effect.gen(function*() {
            yield* round % 2 === 0
              ? Effect.acquireRelease(node.kill, () => Effect.orDie(node.start))
              : Effect.acquireRelease(node.suspend, () => Effect.orDie(node.resume))
            // At once, and when others lead.
            for (let i = 0; i < 2; i++) {
              const atLeast = confirmed
              const found = yield* Effect.retry(entries(next), { times: 5 })
              expect(Number(text(found.at(-1)!.value))).toBeGreaterThanOrEqual(atLeast)
            }
          }))
          // And at once when the one that was suspended wakes up, and may take itself for the leader still.
          const atLeast = confirmed
          const found = yield* Effect.retry(entries(next), { times: 5 })
          expect(Number(text(found.at(-1)!.value))).toBeGreaterThanOrEqual(atLeast)
          const values = found.map(({ value }) => Number(text(value)))
          expect(values).toEqual([...values].sort((a, b) => a - b))
        }
        yield* Fiber.interrupt(writing)
        console.log(`${ROUNDS} leaders killed or suspended: ${confirmed + 1} confirmed`)
      }),
    280_000
  )
})
