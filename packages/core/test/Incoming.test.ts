import { AggregateId, EnvelopeCodec, EventBus, EventBusError, FailurePolicy, Topic } from "@effect-eventbus/core"
import type { Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Either, FastCheck, Layer } from "effect"
import * as Incoming from "../src/internal/incoming.js"
import { eventually } from "./Eventually.js"
import { dropping, Orders, placed, provideBus, RawOrders, text } from "./Orders.js"

const bytes = (text: string) => new TextEncoder().encode(text)

const message = (given: Partial<Transport.IncomingMessage>): Transport.IncomingMessage => ({
  topic: "orders",
  partition: 0,
  offset: 0,
  key: null,
  value: bytes("x"),
  headers: {},
  timestamp: 0,
  maybeDuplicate: false,
  deliveryCount: undefined,
  ...given
})

const body = (aggregateId: string, rest: object = {}) =>
  bytes(JSON.stringify({
    event_id: "e",
    aggregate_id: aggregateId,
    event_type: "Placed",
    event_version: 1,
    timestamp: "2026-11-21T09:30:00Z",
    payload: { _tag: "Placed", n: 1 },
    ...rest
  }))

const envelopes = (codec: EnvelopeCodec.Service = EnvelopeCodec.json, aggregateIdFromSubject = false) =>
  Incoming.make(Orders as never, codec, { aggregateIdFromSubject })
const plain = Incoming.make(Topic.plain("clicks"), EnvelopeCodec.json, {})

const envelope = (aggregateId: unknown) => ({
  eventId: "e",
  aggregateId: aggregateId as string,
  eventType: "Placed",
  eventVersion: 1,
  timestamp: "2026-11-21T09:30:00Z",
  traceId: undefined,
  correlationId: undefined,
  tenantId: undefined,
  payload: { _tag: "Placed", n: 1 },
  payloadJson: "{}"
})

/** A codec that reads what it is told to. */
const reading = (decode: () => unknown): EnvelopeCodec.Service => ({
  ...EnvelopeCodec.json,
  decode: decode as EnvelopeCodec.Service["decode"]
})

describe("what a message is ordered by", () => {
  it("is found in the body, then in headers, then in the key, then in the subject where that is wanted", () => {
    const all = {
      value: body("from-body"),
      headers: { "aggregate-id": "from-header" },
      key: bytes("from-key"),
      topic: "orders.from-subject"
    }
    const read = (given: Partial<Transport.IncomingMessage>, fromSubject = true) =>
      envelopes(EnvelopeCodec.json, fromSubject).read(message({ ...all, ...given })).aggregateId
    expect(read({})).toBe("from-body")
    expect(read({ value: bytes("junk") })).toBe("from-header")
    expect(read({ value: bytes("junk"), headers: {} })).toBe("from-key")
    expect(read({ value: bytes("junk"), headers: {}, key: null })).toBe("from-subject")
    expect(read({ value: bytes("junk"), headers: {}, key: null }, false)).toBeUndefined()
  })

  it("is not looked for in the bytes of plain messages", () => {
    const read = plain.read(message({ value: body("from-body"), key: bytes("from-key") }))
    expect(read).toMatchObject({
      aggregateId: "from-key",
      mailbox: "from-key",
      envelope: undefined,
      isTombstone: false
    })
    expect(plain.read(message({ value: null }))).toMatchObject({ isTombstone: false })
  })

  it("is an undecodable envelope's own aggregate id before a header's", () => {
    const read = envelopes().read(
      message({ value: body("from-body", { event_version: 0 }), headers: { "X-Aggregate-ID": "from-header" } })
    )
    expect(read.aggregateId).toBe("from-body")
    expect(read.undecodable).toMatchObject({ reason: "Field", position: { topic: "orders", partition: 0, offset: 0 } })
  })

  const keys = [
    bytes("user@example.com"),
    bytes("order 1"),
    bytes("bestellung-ü"),
    bytes("\ufefforder-1"),
    Uint8Array.of(0, 255, 1, 254, 2, 253, 3, 252),
    bytes("00ff01fe02fd03fc "),
    new Uint8Array(0),
    bytes("x".repeat(257)),
    bytes("x".repeat(258))
  ]

  it("is a key of any bytes: equal keys share a mailbox, others have their own, and none is an aggregate's", () => {
    const mailboxes = keys.map((key) => plain.read(message({ key })).mailbox)
    expect(new Set(mailboxes).size).toBe(keys.length)
    for (const [i, key] of keys.entries()) {
      const read = plain.read(message({ key: key.slice() }))
      expect(read.aggregateId).toBeUndefined()
      expect(read.mailbox).toBe(mailboxes[i])
      expect(AggregateId.isValid(read.mailbox)).toBe(false)
      expect(envelopes().read(message({ key })).mailbox).toBe(mailboxes[i])
    }
    expect(plain.read(message({ key: null })).mailbox).toBeUndefined()
  })

  it.prop("is bounded in length, and different for different keys of up to 256 bytes", [
    FastCheck.uint8Array({ maxLength: 300 }),
    FastCheck.uint8Array({ maxLength: 300 })
  ], ([a, b]) => {
    const [first, second] = [a, b].map((key) => plain.read(message({ key })).mailbox!)
    expect(first!.length).toBeLessThan(600)
    if (Buffer.compare(a, b) === 0) expect(first).toBe(second)
    else if (a.length <= 256 && b.length <= 256) expect(first).not.toBe(second)
  })

  it("is what a codec read, also where that is no valid aggregate id, and before the key's bytes", () => {
    const read = (id: unknown, given: Partial<Transport.IncomingMessage> = {}) =>
      envelopes(reading(() => Either.right(envelope(id)))).read(message(given))
    expect(read("a-1")).toMatchObject({ aggregateId: "a-1", mailbox: "a-1" })
    for (const id of ["?", "order 1", "x".repeat(1_000)]) {
      const { aggregateId, envelope, mailbox } = read(id, { key: bytes("order 2") })
      expect(aggregateId).toBeUndefined()
      expect(envelope?.aggregateId).toBe(id)
      expect(mailbox).toBe(read(id).mailbox)
      expect(AggregateId.isValid(mailbox)).toBe(false)
      expect(mailbox).not.toBe(read(`${id}!`).mailbox)
    }
    expect(read("?", { key: bytes("a-1") })).toMatchObject({ aggregateId: "a-1", mailbox: "a-1" })
    expect(read("").mailbox).toBeUndefined()
    expect(read("order 1").mailbox).not.toBe(read("", { key: bytes("order 1") }).mailbox)
  })

  it.scoped("keeps messages of one key in order, one at a time, whatever its bytes are", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const topic = Topic.plain("keys", { partitions: 1 })
      const seen = new Map<string, Array<string>>()
      const running = new Set<string>()
      let overlaps = 0
      let count = 0
      yield* bus.subscribe(topic, (body, { key }) => {
        const name = Buffer.from(key!).toString("hex")
        return Effect.gen(function*() {
          if (running.has(name)) overlaps++
          running.add(name)
          seen.set(name, [...seen.get(name) ?? [], text(body)])
          // The first takes the longest.
          for (let i = Number(text(body)); i < 6; i++) yield* Effect.yieldNow()
          running.delete(name)
          count++
        })
      }, { semantics: "at-least-once", ...dropping })
      const some = keys.slice(0, 6)
      for (let n = 0; n < 6; n++) for (const key of some) yield* bus.publish(topic, { body: String(n), key })
      yield* eventually("all are handled", () => count === 36)
      expect(Array.from(seen.values())).toEqual(some.map(() => ["0", "1", "2", "3", "4", "5"]))
      expect(overlaps).toBe(0)
    }).pipe(provideBus()))
})

describe("a codec of one's own", () => {
  const revoked = () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  }
  const ways: ReadonlyArray<readonly [string, () => unknown]> = [
    ["throws", () => {
      throw new TypeError("the payload was secret")
    }],
    ["throws what can't be looked at", () => {
      throw revoked()
    }],
    ["answers nothing", () => undefined],
    ["answers no Either", () => ({ aggregateId: "a" })],
    ["answers what can't be looked at", revoked],
    ["answers no envelope", () => Either.right(undefined)],
    ["answers an envelope without an aggregate id", () => Either.right(envelope(undefined))],
    ["answers an envelope that can't be looked at", () => Either.right(revoked())],
    ["answers no error", () => Either.left(undefined)],
    [
      "answers an envelope whose payload can't be read",
      () =>
        Either.right(Object.defineProperty(envelope("a"), "payload", {
          get: () => {
            throw new Error("the payload was secret")
          }
        }))
    ]
  ]
  for (const [way, decode] of ways) {
    it.scoped(`that ${way} makes a DecodeError, and the partition goes on`, () =>
      Effect.gen(function*() {
        const failures: Array<EventBusError.EventBusError> = []
        const texts: Array<string> = []
        const handled: Array<string> = []
        yield* Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          yield* bus.subscribe(Orders, (_, { envelope }) => Effect.sync(() => handled.push(envelope.aggregateId)), {
            onExhausted: FailurePolicy.drop,
            onFailure: (failure) =>
              Effect.sync(() => {
                texts.push(failure.message)
                failures.push(Cause.squash(failure.cause) as EventBusError.EventBusError)
              })
          })
          yield* bus.publish(RawOrders, { body: "junk", key: "a" })
          yield* bus.publish(Orders, placed("a", 1))
          yield* eventually("both are through", () => failures.length === 1 && handled.length === 1)
        }).pipe(
          provideBus(),
          Effect.provide(Layer.succeed(EnvelopeCodec.EnvelopeCodec, {
            ...EnvelopeCodec.json,
            decode: (value, headers) =>
              text(value) === "junk" ? decode() as never : EnvelopeCodec.json.decode(value, headers)
          }))
        )
        expect(failures[0]).toMatchObject({
          _tag: "DecodeError",
          reason: "Codec",
          position: { topic: "orders", partition: 0, offset: 0 }
        })
        expect(texts[0]).not.toContain("secret")
      }))
  }

  it("has its own error's reason and id where it says that it can't decode", () => {
    const read = envelopes(
      reading(() =>
        Either.left({
          error: new EventBusError.DecodeError({ reason: "Field", issue: "no id" }),
          aggregateId: "order 1"
        })
      )
    ).read(message({}))
    expect(read.undecodable).toMatchObject({ reason: "Field", issue: "no id" })
    expect(read.aggregateId).toBeUndefined()
    expect(read.mailbox).toBeDefined()
  })
})
