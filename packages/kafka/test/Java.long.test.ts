import { EventBus, FailurePolicy, Partitioner, Topic } from "@effect-eventbus/core"
import type { Envelope } from "@effect-eventbus/core"
import type { Compression } from "@effect-eventbus/kafka"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { readFileSync } from "node:fs"
import { describe, expect } from "vitest"
import { codecs } from "./codecs.js"
import { driverName } from "./driver.js"
import { eventually, finishing, message, published, request, shared, spec, topicName, transport } from "./Harness.js"
import * as JavaClient from "./JavaClient.js"

const go = readFileSync(new URL("golden/envelope.json", import.meta.url), "utf8")

const kinds: ReadonlyArray<Compression.Compression> = ["none", "gzip", "snappy", "lz4", "zstd"]
// More than a block of snappy's framing and of lz4, both of which Java fills at 32 and 64 KiB.
const values = Array.from({ length: 300 }, (_, i) => `value ${i} ${String(i * 7_919).repeat(100)}`)

describe("Java's client", () => {
  it.scopedLive(
    "reads what we compressed, and what it compressed is read: gzip, snappy, lz4, zstd",
    ({ skip }) =>
      JavaClient.ifAvailable(skip, (java) =>
        Effect.gen(function*() {
          const topics = kinds.map((kind) => ({ kind, ours: spec(), theirs: spec() }))
          for (const { kind, ours, theirs } of topics) {
            const service = yield* transport({ compression: kind, codecs })
            yield* published(service, ours, values.map((value) => message("a", value)))
            yield* published(service, theirs, [message("a", "first")])
          }
          const records = yield* JavaClient.run(
            java,
            topics.flatMap(({ kind, ours, theirs }) => [
              `consume:${ours.name}:${values.length}`,
              `produce:${theirs.name}:${kind}`
            ]),
            topics.flatMap(({ theirs }) =>
              values.map((value) => ({ topic: theirs.name, key: "a", value: Buffer.from(value) }))
            )
          )
          const service = yield* transport({ codecs })
          for (const { kind, ours, theirs } of topics) {
            const read = records.filter(({ topic }) => topic === ours.name).map(({ value }) => value.toString())
            expect([kind, read]).toEqual([kind, values])
            const { consumer, values: seen } = finishing()
            yield* service.subscribe(request(theirs), consumer)
            yield* eventually(`${kind} is read`, () => seen().length > values.length)
            expect([kind, seen().slice(1)]).toEqual([kind, values])
          }
        })),
    180_000
  )

  it.scopedLive(
    "writes envelopes in the Go bus's bytes to the partitions that we choose, and reads ours byte for byte",
    ({ skip }) =>
      JavaClient.ifAvailable(skip, (java) =>
        Effect.gen(function*() {
          const Orders = Topic.envelope(topicName(), Schema.Struct({ total: Schema.Number }), {
            partitions: 7,
            eventType: () => "OrderPlaced"
          })
          const bus = Context.get(
            yield* Layer.build(
              EventBus.layer.pipe(Layer.provide(KafkaTransport.layer({ brokers: shared(), driver: driverName })))
            ),
            EventBus.EventBus
          )
          const received: Array<Envelope.Envelope> = []
          yield* bus.subscribe(
            Orders,
            (_, { envelope }) => Effect.sync(() => void received.push(envelope)),
            { onExhausted: FailurePolicy.drop }
          )
          const ids = Array.from({ length: 50 }, (_, i) => `tenant-${i % 7}:order/${i * 7_919}`)
          yield* Effect.forEach(
            ids,
            (aggregateId, i) => bus.publish(Orders, { aggregateId, tenantId: 7, traceId: "t", payload: { total: i } })
          )
          yield* eventually("ours arrive", () => received.length === ids.length)
          const own = [...received]
          const theirs = (id: string) => go.replace("order-1", id)
          const records = yield* JavaClient.run(
            java,
            [`consume:${Orders.name}:${ids.length}`, `produce:${Orders.name}:none`],
            ids.map((key) => ({ topic: Orders.name, key, value: Buffer.from(theirs(key)) }))
          )
          const partition = (key: string) => Partitioner.partition("murmur2", Buffer.from(key), 7)
          expect(records.map(({ key, partition }) => [key, partition])).toEqual(
            records.map(({ key }) => [key, partition(key)])
          )
          const ours = new Map(records.slice(0, ids.length).map(({ key, value }) => [key, value.toString()]))
          for (const { aggregateId, eventId, payloadJson, timestamp } of own) {
            expect(ours.get(aggregateId)).toBe(
              `{"event_id":"${eventId}","aggregate_id":"${aggregateId}","event_type":"OrderPlaced","event_version":1,` +
                `"timestamp":"${timestamp}","trace_id":"t","tenant_id":7,"payload":${payloadJson}}`
            )
          }
          yield* eventually("Java's arrive", () => received.length === 2 * ids.length)
          const arrived = new Map(received.slice(ids.length).map((envelope) => [envelope.aggregateId, envelope]))
          for (const id of ids) {
            expect(arrived.get(id)).toMatchObject({
              eventId: "0192f0c1-2b3c-7d4e-8f50-0123456789ab",
              eventType: "OrderPlaced",
              eventVersion: 2,
              timestamp: "2026-11-21T10:11:12.123456789Z",
              tenantId: 7
            })
            expect(`"payload":${arrived.get(id)!.payloadJson}}`).toBe(go.slice(go.indexOf("\"payload\"")))
          }
        })),
    180_000
  )
})
