import { DeadLetter, EnvelopeCodec, EventBus, FailurePolicy, Headers, Topic } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect, Either, Layer, Option, Schedule, Schema } from "effect"
import { readFileSync } from "node:fs"
import { eventually } from "./Eventually.js"
import { Bad, Placed, placed, provideBus, RawOrders } from "./Orders.js"

// docs/failure-handling.md: reading and redriving
// For reading only: `deadLetter` has the topic's name, or the topic as one of envelopes.
const PaymentLetters = Topic.plain("payments.dead")

const Alert = PaymentLetters.toLayer((_, delivery) =>
  Option.match(DeadLetter.fromDelivery(delivery), {
    onNone: () => Effect.logWarning("This is no dead letter"),
    onSome: ({ cause, error, position }) => Effect.logError(`${position.topic}@${position.offset}: ${error}, ${cause}`)
  }), { semantics: "at-least-once", onExhausted: FailurePolicy.drop })

const redrive = (payments: Topic.PlainTopic) =>
  PaymentLetters.toLayer((_, delivery) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const letter = DeadLetter.fromDelivery(delivery)
      if (Option.isNone(letter) || letter.value.error === "DecodeError") return
      const { original: { headers, key, value }, position } = letter.value
      // Subscriptions of several topics may share a dead-letter topic.
      if (position.topic !== payments.name) return
      // An empty body would be another message than none.
      if (value === null) {
        return yield* Effect.logWarning(`${position.topic}@${position.offset} is a tombstone, and is left out`)
      }
      yield* bus.publish(payments, {
        body: value,
        headers,
        key: key ?? undefined,
        aggregateId: delivery.aggregateId
      })
    }), {
    group: "redrive-2026-11",
    semantics: "at-least-once",
    onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
  })
// end

// docs/subscribing.md: another format
// Orders that another system writes: {"no":"4711","kind":"placed","at":1700000000000,"data":{...}}
const legacy: EnvelopeCodec.Service = {
  encode: ({ aggregateId, eventType, payload, timestamp }) => ({
    value: new TextEncoder().encode(
      JSON.stringify({ no: aggregateId, kind: eventType, at: Date.parse(timestamp), data: payload })
    ),
    headers: { "content-type": "application/json" }
  }),
  decode: (value, headers) => {
    const { at, data, kind, no } = JSON.parse(new TextDecoder().decode(value ?? undefined))
    if (typeof no !== "string") return EnvelopeCodec.undecodable("Field", "no is missing")
    return Either.right({
      eventId: Headers.get(headers, "message-id") ?? `${no}/${at}`,
      aggregateId: no,
      eventType: kind,
      eventVersion: 1,
      timestamp: new Date(at).toISOString(),
      traceId: undefined,
      correlationId: undefined,
      tenantId: undefined,
      payload: data,
      payloadJson: JSON.stringify(data)
    })
  }
}
// end

const shown = (document: string, from: string) => {
  const source = readFileSync(new URL(import.meta.url), "utf8")
  const begin = source.indexOf("\n", source.indexOf(`// ${document}: ${from}`)) + 1
  const text = readFileSync(new URL(`../../../${document}`, import.meta.url), "utf8")
  for (const part of source.slice(begin, source.indexOf("// end", begin)).split("\n\n")) {
    expect(text).toContain(part.trim())
  }
}

it("the docs show what runs here", () => {
  shown("docs/failure-handling.md", "reading and redriving")
  shown("docs/subscribing.md", "another format")
})

it.scoped("dead letters are redriven with their ids, in order", () =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const Payments = Topic.envelope("payments", Placed, { partitions: 1 })
    let isRepaired = false
    const handled: Array<unknown> = []
    const alerts: Array<string> = []
    yield* bus.subscribe(Payments, ({ n }, { aggregateId, envelope }) =>
      Effect.suspend(() => {
        if (!isRepaired) return new Bad({ n })
        handled.push([n, aggregateId, envelope.eventId])
        return Effect.void
      }), { onExhausted: FailurePolicy.deadLetter("payments.dead"), retry: Schedule.recurs(0) })
    const all = [0, 1, 2].map((n) => ({ ...placed("a", n), eventId: `e-${n}` }))
    yield* bus.publishAll(Payments, all)
    yield* bus.publish(Topic.plain("payments"), { body: "junk" })
    const letters = yield* bus.subscribe(PaymentLetters, () => Effect.sync(() => alerts.push("")), { group: "count" })
    yield* eventually("all are dead-lettered", () => alerts.length === 4)
    yield* letters.close
    isRepaired = true
    yield* Layer.build(Layer.merge(redrive(Topic.plain("payments")), Alert))
    yield* eventually("all are handled", () => handled.length === 3)
    expect(handled).toEqual([[0, "a", "e-0"], [1, "a", "e-1"], [2, "a", "e-2"]])
  }).pipe(provideBus()))

it.scoped("a topic of another format is read and written by its codec", () =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const Orders = Topic.envelope("orders", Schema.Struct({ total: Schema.Number }), {
      codec: legacy,
      eventType: () => "placed",
      partitions: 1
    })
    const handled: Array<unknown> = []
    const reasons: Array<unknown> = []
    yield* bus.subscribe(Orders, ({ total }, { aggregateId, envelope }) =>
      Effect.sync(() => handled.push([total, aggregateId, envelope.eventId])), {
      onExhausted: FailurePolicy.drop,
      onFailure: ({ cause }) =>
        Effect.sync(() => reasons.push(cause._tag === "Fail" && cause.error))
    })
    yield* bus.publish(RawOrders, { body: JSON.stringify({ no: "4711", kind: "placed", at: 5, data: { total: 1 } }) })
    yield* bus.publish(Orders, { aggregateId: "4712", payload: { total: 2 }, timestamp: "1970-01-01T00:00:00.007Z" })
    for (const body of ["junk", "{}"]) {
      yield* bus.publish(RawOrders, { body })
    }
    yield* eventually("all are through", () =>
      handled.length === 2 && reasons.length === 2)
    expect(handled).toEqual(expect.arrayContaining([[1, "4711", "4711/5"], [2, "4712", "4712/7"]]))
    expect(reasons).toMatchObject([{ reason: "Codec" }, { reason: "Field" }])
  }).pipe(provideBus()))
