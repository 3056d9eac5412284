/** The table of requests, against another client's codecs and against a broker, in every version that both speak. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import kafkajs from "kafkajs/src/protocol/requests/index.js"
import type { Link } from "../src/internal/Driver.js"
import type { ApiName, RequestOf } from "../src/internal/requests.js"
import { requests } from "../src/internal/requests.js"
import { driver } from "./driver.js"
import {
  committed,
  eventuallyCommitted,
  finishing,
  numbered,
  published,
  request,
  shared,
  spec,
  transport
} from "./Harness.js"

/** What is asked for here, and the same as kafkajs wants it. */
const same: { readonly [Name in ApiName]?: readonly [ours: RequestOf<Name>, theirs: object, name?: string] } = {
  CreatePartitions: [
    { name: "orders", count: 7, timeoutMs: 1_000 },
    { topicPartitions: [{ topic: "orders", count: 7 }], timeout: 1_000, validateOnly: false }
  ],
  CreateTopics: [
    { name: "höhe", partitions: 3, replicationFactor: -1, config: { "retention.ms": "1" }, timeoutMs: 1_000 },
    {
      topics: [{
        topic: "höhe",
        numPartitions: 3,
        replicationFactor: -1,
        configEntries: [{ name: "retention.ms", value: "1" }]
      }],
      timeout: 1_000,
      validateOnly: false
    }
  ],
  DescribeConfigs: [
    { topic: "orders", names: ["retention.ms", "cleanup.policy"] },
    {
      resources: [{ type: 2, name: "orders", configNames: ["retention.ms", "cleanup.policy"] }],
      includeSynonyms: false
    }
  ],
  DescribeGroups: [{ groups: ["g", "h"] }, { groupIds: ["g", "h"] }],
  Fetch: [
    {
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: 1_000,
      sessionId: 0,
      sessionEpoch: -1,
      topics: [{
        topic: "orders",
        partitions: [{ partition: 2, currentLeaderEpoch: -1, fetchOffset: 2 ** 40, maxBytes: 500 }]
      }],
      forgottenTopics: []
    },
    {
      replicaId: -1,
      isolationLevel: 1,
      sessionId: 0,
      sessionEpoch: -1,
      rackId: "",
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: 1_000,
      topics: [{ topic: "orders", partitions: [{ partition: 2, fetchOffset: 2 ** 40, maxBytes: 500 }] }]
    }
  ],
  FindCoordinator: [{ group: "g" }, { groupId: "g", coordinatorType: 0 }, "GroupCoordinator"],
  Heartbeat: [
    { group: "g", generation: 4, memberId: "m", instanceId: "i" },
    { groupId: "g", groupGenerationId: 4, memberId: "m", groupInstanceId: "i" }
  ],
  InitProducerId: [{}, { transactionTimeout: 60_000 }],
  JoinGroup: [
    {
      group: "g",
      memberId: "",
      instanceId: "i",
      sessionTimeoutMs: 1,
      rebalanceTimeoutMs: 2,
      protocol: "p",
      metadata: Buffer.from("bytes")
    },
    {
      groupId: "g",
      memberId: "",
      groupInstanceId: "i",
      sessionTimeout: 1,
      rebalanceTimeout: 2,
      protocolType: "consumer",
      groupProtocols: [{ name: "p", metadata: Buffer.from("bytes") }]
    }
  ],
  LeaveGroup: [{ group: "g", memberId: "m" }, { groupId: "g", memberId: "m", members: [] }],
  ListOffsets: [
    { topic: "orders", partitions: [{ partition: 1, currentLeaderEpoch: -1, timestamp: -2 }] },
    {
      replicaId: -1,
      isolationLevel: 1,
      topics: [{ topic: "orders", partitions: [{ partition: 1, timestamp: -2 }] }]
    }
  ],
  Metadata: [{ topics: ["a", "b"] }, { topics: ["a", "b"], allowAutoTopicCreation: false }],
  OffsetCommit: [
    { group: "g", generation: 3, memberId: "m", topic: "t", partitions: [{ partition: 1, offset: 5, metadata: "eb" }] },
    {
      groupId: "g",
      groupGenerationId: 3,
      memberId: "m",
      retentionTime: -1,
      topics: [{ topic: "t", partitions: [{ partition: 1, offset: 5, metadata: "eb" }] }]
    }
  ],
  OffsetFetch: [
    { group: "g", topic: "t", partitions: [0, 3] },
    { groupId: "g", topics: [{ topic: "t", partitions: [{ partition: 0 }, { partition: 3 }] }] }
  ],
  SyncGroup: [
    {
      group: "g",
      generation: 3,
      memberId: "m",
      instanceId: "i",
      assignments: [{ memberId: "m", assignment: Buffer.from("x") }]
    },
    {
      groupId: "g",
      generationId: 3,
      memberId: "m",
      groupInstanceId: "i",
      groupAssignment: [{ memberId: "m", memberAssignment: Buffer.from("x") }]
    }
  ]
}

describe("the bytes of a request are those of kafkajs", () => {
  for (const name of Object.keys(same) as ReadonlyArray<ApiName>) {
    const [ours, theirs, theirName = name] = same[name]!
    const definition = kafkajs.requests[theirName]!
    const both = requests[name].versions.filter((version) => definition.versions.map(Number).includes(version))
    it.effect(`${name}, versions ${both.join(", ")}`, () =>
      Effect.promise(async () => {
        expect(both.length).toBeGreaterThan(0)
        for (const version of both) {
          const body = await requests[name].encode(ours as never, version)
          const { buffer } = await definition.protocol({ version })(theirs).request.encode() as {
            readonly buffer: Buffer
          }
          expect(body.toString("hex"), `version ${version}`).toBe(buffer.toString("hex"))
        }
      }))
  }
})

const linkTo = (address: string) =>
  Effect.acquireRelease(
    Effect.promise(() => {
      const [host, port] = address.split(":")
      const options = { clientId: "test", tls: undefined, sasl: undefined, log: () => {} }
      return driver.open({ host: host!, port: Number(port) }, options, new AbortController().signal)
    }),
    (link: Link) => Effect.promise(link.dispose)
  )

/** The answers of a broker in all versions that both speak. */
const answers = <Name extends ApiName>(link: Link, name: Name, requestIn: (version: number) => RequestOf<Name>) =>
  Effect.promise(async () => {
    const { ranges } = requests.ApiVersions.decode(
      await link.send({ name: "ApiVersions", key: 18, version: 0, body: Buffer.alloc(0) }),
      0
    )
    const { decode, encode, key, taggedFrom = Infinity, versions } = requests[name]
    const range = ranges.find((range) => range.key === key)!
    const spoken = versions.filter((version) => version >= range.oldest && version <= range.newest)
    const found = []
    for (const version of spoken) {
      const body = await encode(requestIn(version), version)
      const isTagged = version >= taggedFrom
      const frame = { name, key, version, body: isTagged ? Buffer.concat([Buffer.alloc(1), body]) : body }
      const answer = await link.send(frame)
      found.push({ version, answer: decode(isTagged ? answer.subarray(1) : answer, version) })
    }
    return found
  })

it.scopedLive("a broker answers the same in every version that it speaks", () =>
  Effect.gen(function*() {
    const topic = spec()
    const service = yield* transport({ topicSettings: { [topic.name]: { retention: "1 day" } } })
    yield* published(service, topic, numbered(5))
    yield* Effect.scoped(Effect.zipRight(
      service.subscribe(request(topic), finishing().consumer),
      eventuallyCommitted(topic.name, 5)
    ))
    const { metadata } = yield* committed(topic.name)
    const link = yield* linkTo(shared()[0]!)
    const group = `tests.${topic.name}`
    const is = <Name extends ApiName>(name: Name, asked: RequestOf<Name>, expected: object) =>
      isIn(name, () => asked, () => expected)
    const isIn = function*<Name extends ApiName>(
      name: Name,
      asked: (version: number) => RequestOf<Name>,
      expected: (version: number) => object
    ) {
      const all = yield* answers(link, name, asked)
      expect(all.length, name).toBeGreaterThan(0)
      for (const { answer, version } of all) {
        expect({ version, answer }).toMatchObject({ version, answer: { throttleMs: 0, ...expected(version) } })
      }
    }
    const none = { errorCode: 0 }
    yield* is("Metadata", { topics: [topic.name] }, {
      brokers: [{ port: Number(shared()[0]!.split(":")[1]) }],
      topics: [{ name: topic.name, ...none, partitions: [{ id: 0, ...none, replicas: [expect.any(Number)] }] }]
    })
    yield* is("DescribeConfigs", { topic: topic.name, names: ["retention.ms"] }, {
      resources: [{ ...none, entries: [{ name: "retention.ms", value: "86400000" }] }]
    })
    yield* is("FindCoordinator", { group }, { ...none, host: expect.any(String), port: expect.any(Number) })
    yield* is("OffsetFetch", { group, topic: topic.name, partitions: [0] }, {
      ...none,
      partitions: [{ partition: 0, offset: 5, metadata, ...none }]
    })
    yield* is("DescribeGroups", { groups: [group] }, { groups: [{ ...none, state: "Empty", members: [] }] })
    yield* is("ListOffsets", {
      topic: topic.name,
      partitions: [{ partition: 0, currentLeaderEpoch: -1, timestamp: -1 }]
    }, { partitions: [{ partition: 0, ...none, offset: 5 }] })
    yield* is("Heartbeat", { group, generation: 1, memberId: "nobody" }, { errorCode: 25 })
    yield* is("LeaveGroup", { group, memberId: "nobody" }, { errorCode: 25 })
    yield* is("SyncGroup", { group, generation: 1, memberId: "nobody", assignments: [] }, { errorCode: 25 })
    yield* is("OffsetCommit", {
      group,
      generation: 1,
      memberId: "nobody",
      topic: topic.name,
      partitions: [{ partition: 0, offset: 1, metadata: "" }]
    }, { partitions: [{ partition: 0, errorCode: 25 }] })
    yield* is("InitProducerId", {}, { ...none, producerId: expect.any(String), producerEpoch: 0 })
    yield* isIn("JoinGroup", (version) => ({
      group: `${group}-${version}`,
      memberId: "",
      sessionTimeoutMs: 6_000,
      rebalanceTimeoutMs: 6_000,
      protocol: "p",
      metadata: Buffer.from("bytes")
    }), (version) =>
      version >= 4
        ? { errorCode: 79, memberId: expect.stringMatching(/./), members: [] }
        : {
          ...none,
          generation: 1,
          members: [{ memberId: expect.stringMatching(/./), metadata: Buffer.from("bytes") }]
        })
    // It is repeated, and known by its numbers.
    const [given] = yield* answers(link, "InitProducerId", () => ({}))
    const { producerEpoch, producerId } = given!.answer
    const messages = [{ key: null, value: Buffer.from("last"), headers: {}, timestamp: 1 }]
    yield* is("Produce", {
      acks: -1,
      timeout: 1_000,
      compression: "none",
      codec: undefined,
      producerId,
      producerEpoch,
      topicData: [{ topic: topic.name, partitions: [{ partition: 0, firstSequence: 0, messages }] }]
    }, { topics: [{ topic: topic.name, partitions: [{ partition: 0, ...none, baseOffset: 5 }] }] })
    yield* is("CreateTopics", {
      name: topic.name,
      partitions: 1,
      replicationFactor: 1,
      config: {},
      timeoutMs: 1_000
    }, { topics: [{ name: topic.name, errorCode: 36 }] })
    yield* is("CreatePartitions", { name: topic.name, count: 1, timeoutMs: 1_000 }, {
      topics: [{ name: topic.name, errorCode: 37 }]
    })
    yield* is("IncrementalAlterConfigs", { topic: topic.name, settings: { "retention.ms": "86400000" } }, none)
    const fetched = (sessionEpoch: number): RequestOf<"Fetch"> => ({
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: 1_000_000,
      sessionId: 0,
      sessionEpoch,
      forgottenTopics: [],
      topics: [{
        topic: topic.name,
        partitions: [{ partition: 0, currentLeaderEpoch: -1, fetchOffset: 0, maxBytes: 1_000_000 }]
      }]
    })
    yield* is("Fetch", fetched(-1), { ...none, partitions: [{ partition: 0, ...none, highWatermark: 6 }] })
  }), 30_000)
