import type { EventBusError } from "@effect-eventbus/core"
import { EnvelopeCodec, EventBus, FailurePolicy, Headers, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Either, Fiber, ParseResult, Schema, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Orders, Placed, placed, provideBus, text } from "./Orders.js"

/** CloudEvents in the binary mode: what describes the event is in headers, the value is the payload. */
const cloudEvents: EnvelopeCodec.Service = {
  encode: (envelope) => ({
    value: new TextEncoder().encode(envelope.payloadJson),
    headers: {
      "ce-specversion": "1.0",
      "ce-id": envelope.eventId,
      "ce-source": "/orders",
      "ce-type": envelope.eventType,
      "ce-subject": envelope.aggregateId,
      "ce-time": envelope.timestamp
    }
  }),
  decode: (value, headers) => {
    const header = (name: string) => Headers.get(headers, `ce-${name}`)
    const [eventId, eventType, aggregateId] = [header("id"), header("type"), header("subject")]
    if (eventId === undefined || eventType === undefined || aggregateId === undefined) {
      return EnvelopeCodec.undecodable("Field", "ce-id, ce-type and ce-subject must be given", { aggregateId })
    }
    const payloadJson = text(value)
    return Either.right({
      eventId,
      aggregateId,
      eventType,
      eventVersion: 1,
      timestamp: header("time") ?? "1970-01-01T00:00:00Z",
      traceId: undefined,
      correlationId: undefined,
      tenantId: undefined,
      get payload() {
        return JSON.parse(payloadJson)
      },
      payloadJson
    })
  }
}

const Foreign = Topic.envelope("foreign", Placed, { partitions: 1, codec: cloudEvents })
const RawForeign = Topic.plain("foreign", { partitions: 1 })

describe("a codec of a topic", () => {
  it.scoped("writes value and headers, and reads them, beside topics that have the codec of the bus", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const raw: Array<unknown> = []
      const handled: Array<unknown> = []
      yield* bus.subscribe(
        RawForeign,
        (body, { headers }) =>
          Effect.sync(() => raw.push([text(body), headers["ce-type"], headers["ce-id"], headers.page])),
        { group: "raw" }
      )
      for (const topic of [Foreign, Orders] as ReadonlyArray<typeof Foreign>) {
        yield* bus.subscribe(
          topic,
          (event, delivery) =>
            Effect.sync(() => handled.push([delivery.topic, delivery.aggregateId, event.n, delivery.envelope.eventId])),
          {
            onExhausted: FailurePolicy.drop
          }
        )
      }
      yield* bus.publish(Foreign, {
        ...placed("a", 1),
        eventId: "e-1",
        headers: { page: "/", "CE-ID": "the codec's own wins" }
      })
      yield* bus.publish(Orders, { ...placed("a", 2), eventId: "e-2" })
      yield* eventually("all are handled", () => handled.length === 2 && raw.length === 1)
      expect(raw).toEqual([["{\"n\":1,\"_tag\":\"Placed\"}", "Placed", "e-1", "/"]])
      expect(handled).toEqual(expect.arrayContaining([["foreign", "a", 1, "e-1"], ["orders", "a", 2, "e-2"]]))
    }).pipe(provideBus()))

  it.scoped("may read other ids than ours: they order the messages, and are in the envelope", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = new Map<string, Array<number>>()
      let handled = 0
      yield* bus.subscribe(Foreign, (event, { aggregateId, envelope }) =>
        Effect.gen(function*() {
          // The delivery has it as well: its type says that there is one.
          expect(aggregateId).toBe(envelope.aggregateId)
          seen.set(envelope.aggregateId, [...seen.get(envelope.aggregateId) ?? [], event.n])
          for (let i = event.n; i < 6; i++) yield* Effect.yieldNow()
          handled++
        }), { onExhausted: FailurePolicy.drop })
      for (let n = 0; n < 6; n++) {
        for (const id of ["order 1", "user@example.com", "?"]) {
          yield* bus.publish(RawForeign, {
            body: JSON.stringify({ _tag: "Placed", n }),
            headers: { "ce-id": "e", "ce-type": "Placed", "ce-subject": id }
          })
        }
      }
      yield* eventually("all are handled", () => handled === 18)
      for (const order of seen.values()) expect(order).toEqual([0, 1, 2, 3, 4, 5])
      expect(Array.from(seen.keys())).toEqual(["order 1", "user@example.com", "?"])
    }).pipe(provideBus()))

  it.scoped("may write all messages into one buffer: each message has bytes of its own", () =>
    Effect.gen(function*() {
      const buffer = Buffer.alloc(1_000)
      const frugal: EnvelopeCodec.Service = {
        encode: (envelope) => {
          const { headers, value } = EnvelopeCodec.json.encode(envelope)
          buffer.set(value)
          return { headers, value: buffer.subarray(0, value.length) }
        },
        decode: EnvelopeCodec.json.decode
      }
      const bus = yield* EventBus.EventBus
      const Frugal = Topic.envelope("frugal", Placed, { partitions: 1, codec: frugal })
      const handled: Array<number> = []
      yield* bus.subscribe(Frugal, ({ n }) => Effect.sync(() => handled.push(n)), { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(Frugal, [placed("a", 1), placed("a", 2), placed("a", 3)])
      yield* eventually("all are handled", () => handled.length === 3)
      expect(handled).toEqual([1, 2, 3])
    }).pipe(provideBus()))

  it.scoped("that throws, or answers garbage, makes an InvalidMessage, and nothing is sent", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const ways: ReadonlyArray<() => unknown> = [
        () => {
          throw new TypeError("the payload was secret")
        },
        () => {
          const { proxy, revoke } = Proxy.revocable({}, {})
          revoke()
          throw proxy
        },
        () => undefined,
        () => ({}),
        () => new Uint8Array(1),
        () => ({ value: "text", headers: {} }),
        () => ({ value: new Uint8Array(1) })
      ]
      for (const encode of ways) {
        const topic = Topic.envelope("bad", Placed, { codec: { ...EnvelopeCodec.json, encode: encode as never } })
        const error = yield* Effect.flip(bus.publish(topic, placed("a", 1)))
        expect(error).toMatchObject({ _tag: "InvalidMessage", topic: "bad" })
        expect(error.message).not.toContain("secret")
        const all = yield* Effect.flip(bus.publishAll(topic, [placed("a", 1), placed("a", 2)]))
        expect(all.failed).toBe(2)
      }
      const Throwing = Topic.envelope("bad", Placed, {
        eventType: () => {
          throw new Error("no type")
        }
      })
      expect(yield* Effect.flip(bus.publish(Throwing, placed("a", 1)))).toMatchObject({ _tag: "InvalidMessage" })
    }).pipe(provideBus()))
})

describe("publishing what a Schema does not take", () => {
  it.scoped("fails with its path and type, and without its value", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const Cards = Topic.envelope(
        "cards",
        Schema.Struct({ _tag: Schema.Literal("Card"), number: Schema.String.pipe(Schema.minLength(20)) }),
        { partitions: 1 }
      )
      const error = yield* Effect.flip(
        bus.publish(Cards, { aggregateId: "a", payload: { _tag: "Card" as const, number: "4111 secret" } })
      )
      expect(error.message).toContain("[\"number\"]: expected minLength(20), found a string")
      expect([error.message, Cause.pretty(Cause.fail(error), { renderErrorCause: true })].join()).not.toContain(
        "secret"
      )
      expect(ParseResult.isParseError((error as EventBusError.InvalidMessage).cause)).toBe(true)
    }).pipe(provideBus()))

  it.scoped("waits for a Schema that needs asynchronous work, up to the timeout", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const Slow = Schema.transformOrFail(Schema.String, Schema.String, {
        strict: true,
        decode: (text) => Effect.as(Effect.sleep("1 seconds"), text),
        encode: (text) => text === "hangs" ? Effect.never : Effect.as(Effect.sleep("1 seconds"), text.toLowerCase())
      })
      const Texts = Topic.envelope("texts", Schema.Struct({ _tag: Schema.Literal("T"), text: Slow }), { partitions: 1 })
      const message = (text: string) => ({ aggregateId: "a", payload: { _tag: "T" as const, text } })
      const one = yield* Effect.fork(bus.publish(Texts, message("A")))
      yield* settle
      expect(yield* Fiber.poll(one)).toMatchObject({ _tag: "None" })
      yield* TestClock.adjust("1 seconds")
      expect(yield* Fiber.join(one)).toMatchObject({ topic: "texts", offset: 0 })
      const many = yield* Effect.fork(bus.publishAll(Texts, [message("B"), message("C")]))
      for (let i = 0; i < 2; i++) {
        yield* settle
        yield* TestClock.adjust("1 seconds")
      }
      expect((yield* Fiber.join(many)).map(({ offset }) => offset)).toEqual([1, 2])
      const never = yield* Effect.fork(Effect.flip(bus.publish(Texts, message("hangs"))))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(never)).toMatchObject({ _tag: "PublishFailed", outcome: "not-written" })
    }).pipe(provideBus()))
})

describe("bus.encode", () => {
  it.scoped("answers what publish would send, for an outbox to send later", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const transport = yield* Transport.Transport
      const encoded = yield* bus.encode(Orders, { ...placed("a", 1), headers: { page: "/" } })
      expect(encoded).toMatchObject({ aggregateId: "a", key: null, headers: { page: "/" }, timestamp: undefined })
      expect(JSON.parse(text(encoded.value))).toMatchObject({ event_id: encoded.id, payload: { n: 1 } })
      const handled: Array<unknown> = []
      yield* bus.subscribe(
        Orders,
        (event, { envelope }) => Effect.sync(() => handled.push([event, envelope.eventId])),
        {
          onExhausted: FailurePolicy.drop
        }
      )
      yield* settle
      expect(handled).toEqual([])
      yield* transport.publish(Orders.spec, [encoded], { timeout: Duration.seconds(1) })
      yield* eventually("it is handled", () => handled.length === 1)
      expect(handled).toEqual([[new Placed({ n: 1 }), encoded.id]])
      expect(yield* bus.encode(Topic.plain("p"), { body: "b", key: "k" })).toMatchObject({ id: undefined })
      expect(yield* Effect.flip(bus.encode(Orders, placed("not valid!", 1)))).toMatchObject({ _tag: "InvalidMessage" })
    }).pipe(provideBus()))
})
