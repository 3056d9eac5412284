/** Reading from a replica nearby, with three real brokers in racks of their own. */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { appendFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  message,
  ownCluster,
  published,
  request,
  spec,
  transport,
  withAdmin
} from "./Harness.js"

describe("three brokers in three racks", () => {
  const cluster = ownCluster({
    nodes: 3,
    proxied: true,
    config: {
      "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
      "replica.lag.time.max.ms": "5000"
    }
  })

  const moveIntoRacks = Effect.forEach([1, 2, 3], (id) =>
    Effect.gen(function*() {
      const node = cluster().nodes[id - 1]!
      const properties = join(cluster().dataOf(id)!, "..", "server.properties")
      yield* Effect.promise(() => appendFile(properties, `broker.rack=rack-${id}\n`))
      yield* node.kill
      yield* node.start
    }), { discard: true })

  const describeTopic = (topic: string) =>
    withAdmin(async (admin) => {
      const { topics: [found] } = await admin.fetchTopicMetadata({ topics: [topic] })
      return found!.partitions[0]!
    }, cluster().bootstrap)

  it.scopedLive(
    "a subscription reads from the replica of its rack, and from another one when that dies",
    () =>
      Effect.gen(function*() {
        if (cluster().dataOf(1) === undefined) return
        yield* moveIntoRacks
        const topic = spec()
        const brokers = cluster().bootstrap
        const publisher = yield* transport({ brokers, replicationFactor: 3 })
        yield* published(publisher, topic, [message("a", "0")], "60 seconds")
        const { leader, replicas } = yield* describeTopic(topic.name)
        const near = replicas.find((id) => id !== leader)!
        const service = yield* transport({ brokers, rack: `rack-${near}` })
        const { consumer, values } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("what was there arrives", () => values().length === 1, "60 seconds")
        const proxies = cluster().proxies
        const received = (id: number) => proxies[id - 1]!.received
        const readFrom = Effect.gen(function*() {
          const before = yield* Effect.all([received(near), received(leader)])
          yield* Effect.sleep("3 seconds")
          const after = yield* Effect.all([received(near), received(leader)])
          return { near: after[0] - before[0], leader: after[1] - before[1] }
        })
        const bytes = yield* readFrom
        // Ten fetches wait there, and of the rest there are a few heartbeats.
        expect(bytes.near).toBeGreaterThan(400)
        expect(bytes.leader).toBeLessThan(bytes.near)
        for (let i = 1; i < 20; i++) yield* published(publisher, topic, [message("a", String(i))], "60 seconds")
        yield* eventually("what is published later arrives", () => values().length === 20, "60 seconds")
        yield* Effect.acquireRelease(
          cluster().nodes[near - 1]!.kill,
          () => Effect.orDie(cluster().nodes[near - 1]!.start)
        )
        for (let i = 20; i < 40; i++) yield* published(publisher, topic, [message("a", String(i))], "60 seconds")
        yield* eventually("the others go on", () => values().length === 40, "60 seconds")
        expect(values()).toEqual(Array.from({ length: 40 }, (_, i) => String(i)))
      }),
    240_000
  )
})
