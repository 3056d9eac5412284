/**
 * Rule 9: bad bytes are data.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Headers, Topic, Transport } from "@effect-eventbus/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, isLong, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const encoder = new TextEncoder()

/** A small generator with a seed, so that a failing run can be repeated (mulberry32). */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

const good = {
  event_id: "e-1",
  aggregate_id: "order-1",
  event_type: "Step",
  event_version: 1,
  timestamp: "2026-11-21T10:00:00.123456789Z",
  payload: { _tag: "Step", sequence: 0 }
}

const json = (value: unknown) => encoder.encode(JSON.stringify(value))

/** Values that are no envelope of the topic, each for another reason. */
const kinds: ReadonlyArray<(next: () => number) => Uint8Array> = [
  (next) => Uint8Array.from({ length: 1 + Math.floor(next() * 200) }, () => Math.floor(next() * 256)),
  (next) => json(good).slice(0, 1 + Math.floor(next() * 150)),
  () => json({ ...good, event_version: "1" }),
  () => json({ ...good, event_version: 1e300 }),
  () => encoder.encode(JSON.stringify(good).replace("\"event_version\":1", "\"event_version\":1e999")),
  () => json({ ...good, aggregate_id: "not valid!" }),
  () => json({ ...good, aggregate_id: "x".repeat(257) }),
  () => json({ ...good, event_id: "   " }),
  () => json({ ...good, timestamp: "yesterday" }),
  () => json({ ...good, tenant_id: 1.5 }),
  () => json({ ...good, payload: undefined }),
  () => json({ ...good, payload: { _tag: "Step", sequence: "zero" } }),
  () => json({ ...good, payload: { _tag: "Other" } }),
  () => json([good]),
  () => json(null),
  () => encoder.encode("[".repeat(500)),
  () => Uint8Array.of(0xff, 0xfe, 0x00),
  () => new Uint8Array(0)
]

const outgoing = (
  value: Uint8Array | null,
  rest: Partial<Transport.OutgoingMessage> = {}
): Transport.OutgoingMessage => ({
  id: undefined,
  aggregateId: undefined,
  key: null,
  value,
  headers: Headers.empty,
  timestamp: undefined,
  ...rest
})

const publishRaw = (topic: Transport.TopicSpec, messages: ReadonlyArray<Transport.OutgoingMessage>) =>
  Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const results = yield* transport.publish(topic, messages, { timeout: Duration.seconds(20) })
    for (const result of results) if (Either.isLeft(result)) return yield* result.left
  })

/**
 * @since 0.1.0
 * @category rules
 */
export const garbage = (subject: Subject): void => {
  // Another strategy changes nothing of what bytes are.
  const rounds = isLong && subject.strategy === undefined ? 100 : 10
  test(
    `rule 9: ${rounds},000 garbage messages between good ones: each is counted, and every good one is handled in order`,
    () =>
      inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = newTopic("garbage", 2)
          const next = random(42)
          const seen = new Map<string, Array<number>>()
          let handled = 0
          let bad = 0
          const subscription = yield* bus.subscribe(topic, (step, { aggregateId }) =>
            Effect.sync(() => {
              handled++
              const list = seen.get(aggregateId)
              if (list === undefined) seen.set(aggregateId, [step.sequence])
              else list.push(step.sequence)
            }), { ...orDrop, guard: "off" })
          let highest = 0
          for (let round = 0; round < rounds; round++) {
            yield* publishRaw(
              topic.spec,
              Array.from(
                { length: 1_000 },
                () => outgoing(kinds[bad++ % kinds.length]!(next), bad % 3 === 0 ? { key: new Uint8Array(0) } : {})
              )
            )
            yield* bus.publishAll(
              topic,
              Array.from({ length: 20 }, (_, i) => ({
                aggregateId: `order-${i}`,
                payload: new Step({ sequence: round, fails: 0, dies: 0, takes: 0 })
              }))
            )
            highest = Math.max(highest, process.memoryUsage().rss)
          }
          const stats = () => Effect.runSync(subscription.stats)
          yield* eventually(
            "everything is accounted for",
            () => stats().dropped === bad && handled === rounds * 20,
            "90 seconds"
          )
          expect(stats()).toMatchObject({ undecodable: bad, dropped: bad, handled: rounds * 20, restarted: 0 })
          for (const list of seen.values()) expect(list).toEqual(Array.from({ length: rounds }, (_, i) => i))
          // The memory broker's log is in this process.
          expect(highest).toBeLessThan((subject.inProcess === true ? 1_536 : 1_024) * 1024 * 1024)
        })
      ),
    isLong ? 600_000 : 180_000
  )

  test("rule 9: garbage is dead-lettered byte for byte, with a typed decode error, also where the policy is hold", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("garbage-dead", 1)
        const dead = Topic.plain(newName("garbage-letters"), { partitions: 1 })
        const next = random(7)
        const values = Array.from({ length: 200 }, (_, i) => kinds[i % kinds.length]!(next))
        const letters = new Map<string, Uint8Array | null>()
        const errors = new Set<string | undefined>()
        const tags = new Set<string>()
        yield* bus.subscribe(dead, (_, { headers, value }) =>
          Effect.sync(() => {
            letters.set(Headers.get(headers, "x-number")!, value)
            errors.add(Headers.get(headers, "x-dead-letter-error"))
          }))
        yield* bus.subscribe(topic, () => Effect.void, {
          onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.deadLetter(dead) }),
          onFailure: ({ cause }) => Effect.sync(() => tags.add(cause._tag === "Fail" ? cause.error._tag : cause._tag))
        })
        yield* publishRaw(topic.spec, values.map((value, i) => outgoing(value, { headers: { "x-number": `${i}` } })))
        yield* eventually("every dead letter arrives", () => letters.size === values.length)
        values.forEach((value, i) => expect(Array.from(letters.get(`${i}`) ?? [])).toEqual(Array.from(value)))
        expect(errors).toEqual(new Set(["DecodeError"]))
        expect(tags).toEqual(new Set(["DecodeError"]))
      })
    ))

  test("rule 9: bodies of nearly the largest size pass, garbage or not", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const transport = yield* Transport.Transport
        const topic = newTopic("large", 1)
        const size = Math.floor(transport.capabilities.maxMessageBytes * 0.95)
        let handled = 0
        const subscription = yield* bus.subscribe(topic, () => Effect.sync(() => handled++), orDrop)
        for (let i = 0; i < 20; i++) {
          yield* publishRaw(topic.spec, [outgoing(new Uint8Array(size).fill(i))])
          yield* bus.publish(topic, {
            aggregateId: "order-1",
            payload: new Step({ sequence: i, fails: 0, dies: 0, takes: 0, filler: "x".repeat(size - 1_000) })
          })
        }
        yield* eventually("all is accounted for", () =>
          handled === 20 && Effect.runSync(subscription.stats).dropped === 20, "30 seconds")
      })
    ))

  test("messages without an aggregate id take turns over 256 keys, evenly", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.plain(newName("round-robin"))
        let handled = 0
        const slots = new Map<unknown, number>()
        yield* bus.subscribe(topic, (_, { aggregateId }) =>
          Effect.map(Effect.logAnnotations, (annotations) => {
            expect(aggregateId).toBeUndefined()
            const slot = Option.getOrThrow(HashMap.get(annotations, "eventbus.actor"))
            slots.set(slot, (slots.get(slot) ?? 0) + 1)
            handled++
          }))
        yield* publishRaw(topic.spec, Array.from({ length: 2_560 }, (_, i) => outgoing(encoder.encode(`${i}`))))
        yield* eventually("all are handled", () => handled === 2_560)
        expect(slots.size).toBe(256)
        expect(Math.min(...slots.values())).toBeGreaterThanOrEqual(5)
      })
    ))

  test("the aggregate id of a plain message is its header, in any letter case, before its key", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.plain(newName("aggregate-id"), { partitions: 1 })
        const seen = new Map<string, string | undefined>()
        yield* bus.subscribe(topic, (body, { aggregateId }) =>
          Effect.sync(() => seen.set(new TextDecoder().decode(body), aggregateId)))
        yield* bus.publishAll(topic, [
          { body: "header", headers: { "AGGREGATE-id": "from-header" }, key: "from-key" },
          { body: "key", key: "from-key" },
          { body: "given", aggregateId: "from-message" },
          { body: "invalid", headers: { aggregateID: "not valid!" }, key: "from-key" },
          { body: "none" }
        ])
        yield* eventually("all are handled", () =>
          seen.size === 5)
        expect(Object.fromEntries(seen)).toEqual({
          header: "from-header",
          key: "from-key",
          given: "from-message",
          invalid: "from-key",
          none: undefined
        })
      })
    ))
}
