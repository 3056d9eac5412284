import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import type { Headers } from "@effect-eventbus/core"
import { Tracing } from "@effect-eventbus/observability"
import { NodeSdk } from "@effect/opentelemetry"
import { expect, it } from "@effect/vitest"
import { SpanKind, SpanStatusCode } from "@opentelemetry/api"
import {
  InMemorySpanExporter,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
  TraceIdRatioBasedSampler
} from "@opentelemetry/sdk-trace-base"
import { Deferred, Effect, Layer, Logger } from "effect"
import { busWith, eventually, Placed, placed, topicOf } from "./Fixture.js"

/** Runs with a tracer that remembers, and answers the spans that have ended. */
const traced = <A, E>(
  use: (spans: () => ReadonlyArray<ReadableSpan>) => Effect.Effect<A, E, EventBus.EventBus>,
  options?: Tracing.Options,
  sampler?: Sampler
) => {
  const exporter = new InMemorySpanExporter()
  const sdk = NodeSdk.layer(() => ({
    resource: { serviceName: "test" },
    spanProcessor: new SimpleSpanProcessor(exporter),
    tracerConfig: sampler === undefined ? {} : { sampler }
  }))
  return Effect.suspend(() => use(() => exporter.getFinishedSpans())).pipe(
    Effect.provide(busWith(Tracing.layer(options), { closeDeadline: "50 millis" }).pipe(Layer.provideMerge(sdk))),
    Effect.provide(Logger.remove(Logger.defaultLogger))
  )
}

const named = (spans: ReadonlyArray<ReadableSpan>, name: string) => {
  const found = spans.filter((span) => span.name === name)
  expect(found, name).toHaveLength(1)
  return found[0]!
}
const ids = (span: ReadableSpan) => {
  const { spanId, traceId } = span.spanContext()
  return { spanId, traceId }
}
const linksOf = (span: ReadableSpan) => span.links.map(({ context: { spanId, traceId } }) => ({ spanId, traceId }))
const eventsOf = (span: ReadableSpan) => span.events.map(({ attributes, name }) => ({ name, attributes }))

it.live("one message: published, received and processed, with the wait, each failed attempt, and the producer as a link", () => {
  const orders = topicOf()
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen: Array<{ readonly headers: Headers.Headers; readonly traceId: string | undefined }> = []
      yield* bus.subscribe(orders, (_, { attempt, envelope, headers }) => {
        seen.push({ headers, traceId: envelope.traceId })
        if (attempt === 1) return Effect.fail(new TypeError("busy"))
        if (attempt === 2) return Effect.die("crashed")
        return Effect.withSpan(Effect.void, "the handler's own")
      }, { onExhausted: FailurePolicy.drop })
      const receipt = yield* bus.publish(orders, { ...placed("a", 1), eventId: "event-1", correlationId: "c-1" }).pipe(
        Effect.withSpan("request")
      )
      yield* eventually("it is processed", () => spans().some(({ name }) => name === `process ${orders.name}`))
      const published = named(spans(), `publish ${orders.name}`)
      const received = named(spans(), `receive ${orders.name}`)
      const processed = named(spans(), `process ${orders.name}`)

      expect(published.parentSpanContext?.spanId).toBe(ids(named(spans(), "request")).spanId)
      expect(published.kind).toBe(SpanKind.PRODUCER)
      expect(published.attributes).toEqual({
        "messaging.system": "memory",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": orders.name,
        "messaging.destination.partition.id": "0",
        "messaging.message.id": "event-1",
        "messaging.message.conversation_id": "c-1",
        "eventbus.aggregate.id": "a",
        "eventbus.message.offset": receipt.offset
      })
      const { spanId, traceId } = ids(published)
      expect(seen).toHaveLength(3)
      expect(seen[0]).toEqual({ headers: { traceparent: `00-${traceId}-${spanId}-01` }, traceId })

      expect(received.kind).toBe(SpanKind.CLIENT)
      expect(linksOf(received)).toEqual([{ spanId, traceId }])
      expect(received.parentSpanContext).toBeUndefined()
      expect(ids(received).traceId).not.toBe(traceId)
      expect(processed.kind).toBe(SpanKind.CONSUMER)
      expect(linksOf(processed)).toEqual([{ spanId, traceId }])
      expect(processed.parentSpanContext?.spanId).toBe(ids(received).spanId)
      expect(processed.status.code).toBe(SpanStatusCode.OK)
      expect(processed.attributes).toMatchObject({
        "messaging.system": "memory",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": orders.name,
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": "group",
        "messaging.message.id": "event-1",
        "messaging.message.conversation_id": "c-1",
        "eventbus.aggregate.id": "a",
        "eventbus.message.offset": 0,
        "eventbus.epoch": 1,
        "eventbus.outcome": "handled",
        "eventbus.attempts": 3,
        "eventbus.restarts": 1,
        "eventbus.mailbox.wait": expect.any(Number)
      })
      expect(eventsOf(processed)).toEqual([
        {
          name: "messaging.process.exception",
          attributes: { "exception.type": "TypeError", "exception.message": "busy", "eventbus.attempt": 1 }
        },
        { name: "eventbus.attempt", attributes: { "eventbus.attempt": 2 } },
        {
          name: "messaging.process.exception",
          attributes: { "exception.type": "string", "exception.message": "crashed", "eventbus.attempt": 2 }
        },
        { name: "eventbus.actor.restarted", attributes: { "eventbus.attempt": 2 } },
        { name: "eventbus.attempt", attributes: { "eventbus.attempt": 3 } }
      ])
      expect(named(spans(), "the handler's own").parentSpanContext?.spanId).toBe(ids(processed).spanId)
    }).pipe(Effect.scoped)
  )
})

it.live("as a child the consumer goes on in the producer's trace, and a publish in a handler goes on from there", () => {
  const orders = topicOf()
  const next = topicOf()
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(orders, ({ n }) => bus.publish(next, placed("b", n)), { onExhausted: FailurePolicy.drop })
      const headers: Array<Headers.Headers> = []
      yield* bus.subscribe(next, (_, delivery) => Effect.sync(() => headers.push(delivery.headers)), {
        onExhausted: FailurePolicy.drop
      })
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      yield* bus.publish(orders, {
        ...placed("a", 1),
        headers: { Traceparent: `00-${traceId}-b7ad6b7169203331-01`, tracestate: "shop=1", other: "kept" }
      })
      yield* eventually("both are processed", () => spans().some(({ name }) => name === `process ${next.name}`))
      // Whoever gives a context with a message keeps it.
      expect(named(spans(), `process ${orders.name}`).spanContext().traceId).toBe(traceId)
      expect(named(spans(), `process ${orders.name}`).parentSpanContext?.spanId).toBe("b7ad6b7169203331")
      const published = named(spans(), `publish ${next.name}`)
      expect(published.parentSpanContext?.spanId).toBe(ids(named(spans(), `process ${orders.name}`)).spanId)
      expect(named(spans(), `process ${next.name}`).parentSpanContext?.spanId).toBe(ids(published).spanId)
      expect(headers).toEqual([{ traceparent: `00-${traceId}-${ids(published).spanId}-01`, tracestate: "shop=1" }])
      expect(named(spans(), `process ${next.name}`).links).toEqual([])
    }).pipe(Effect.scoped), { relation: "child", receiveSpans: false })
})

it.live("a dead letter keeps the context of its message, and the span says that it was given up, and why, without the payload", () => {
  const orders = topicOf()
  const dead = Topic.envelope(`${orders.name}.dead`, Placed)
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(orders, () => Effect.fail({ _tag: "OutOfStock", secret: "payload" }), {
        onExhausted: FailurePolicy.deadLetter(dead.name),
        onError: () => FailurePolicy.deadLetter(dead.name)
      })
      const letters: Array<Headers.Headers> = []
      yield* bus.subscribe(dead, (_, { headers }) => Effect.sync(() => letters.push(headers)), {
        onExhausted: FailurePolicy.drop
      })
      yield* bus.publish(orders, placed("a", 1))
      yield* eventually("the letter is processed", () => spans().some(({ name }) => name === `process ${dead.name}`))
      const { spanId, traceId } = ids(named(spans(), `publish ${orders.name}`))
      expect(letters[0]?.["traceparent"]).toBe(`00-${traceId}-${spanId}-01`)
      expect(linksOf(named(spans(), `process ${dead.name}`))).toEqual([{ spanId, traceId }])
      const processed = named(spans(), `process ${orders.name}`)
      expect(processed.status).toEqual({ code: SpanStatusCode.ERROR, message: "dead-lettered: OutOfStock" })
      expect(processed.attributes).toMatchObject({ "eventbus.outcome": "dead-lettered", "error.type": "OutOfStock" })
      expect(processed.events.map(({ name }) => name)).toEqual([
        "messaging.process.exception",
        "eventbus.dead_lettering",
        "exception"
      ])
      expect(JSON.stringify([processed.events, processed.attributes])).not.toContain("payload")
    }).pipe(Effect.scoped)
  )
})

it.live("each message of a batch has a span, to which its consumer is linked; and a publish that fails says so", () => {
  const orders = topicOf()
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(orders, [placed("a", 1), placed("b", 2)])
      yield* eventually("both are processed", () =>
        spans().filter(({ name }) => name === `process ${orders.name}`).length === 2)
      const created = spans().filter(({ name }) =>
        name === `create ${orders.name}`
      )
      const published = named(spans(), `publish ${orders.name}`)
      expect(published.kind).toBe(SpanKind.CLIENT)
      expect(published.attributes["messaging.batch.message_count"]).toBe(2)
      expect(linksOf(published)).toEqual(created.map(ids))
      expect(created.map(({ kind }) => kind)).toEqual([SpanKind.PRODUCER, SpanKind.PRODUCER])
      const linked = spans().filter(({ name }) => name === `process ${orders.name}`).flatMap(linksOf)
      expect(linked).toEqual(expect.arrayContaining(created.map(ids)))
      // An outbox stores what was encoded: its context is of the span that made it.
      const encoded = yield* bus.encode(orders, placed("a", 3))
      expect(encoded.headers["traceparent"]).toContain(ids(spans().at(-1)!).spanId)
      yield* Effect.flip(bus.publish(orders, { ...placed("not valid", 1) }))
      const failed = spans().filter(({ name }) => name === `publish ${orders.name}`).at(-1)!
      expect(failed.status.code).toBe(SpanStatusCode.ERROR)
      expect(failed.attributes["error.type"]).toBe("InvalidMessage")
    }).pipe(Effect.scoped)
  )
})

it.live("a trace id in the envelope is kept, and joined where there is no other context", () => {
  const orders = topicOf()
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen: Array<string | undefined> = []
      yield* bus.subscribe(orders, (_, { envelope }) => Effect.sync(() => seen.push(envelope.traceId)), {
        onExhausted: FailurePolicy.drop
      })
      const uuid = "0af76519-16cd-43dd-8448-eb211c80319c"
      yield* bus.publish(orders, { ...placed("a", 1), traceId: uuid })
      yield* bus.publish(orders, { ...placed("a", 2), traceId: "no id by W3C" })
      yield* eventually("both are processed", () => seen.length === 2 && spans().length >= 4)
      expect(seen).toEqual([uuid, "no id by W3C"])
      const [first, second] = spans().filter(({ name }) => name === `publish ${orders.name}`)
      expect(first?.spanContext().traceId).toBe(uuid.replaceAll("-", ""))
      expect(second?.spanContext().traceId).not.toBe(first?.spanContext().traceId)
      yield* eventually("both have ended", () => spans().length === 4)
      const processed = spans().filter(({ name }) => name === `process ${orders.name}`)
      expect(processed.map(({ attributes }) => attributes["eventbus.trace_id"])).toEqual([uuid, "no id by W3C"])
    }).pipe(Effect.scoped), { receiveSpans: false })
})

it.live("what is not sampled at its producer is not traced by its consumer, and a handler's spans are not torn from theirs", () => {
  const orders = topicOf()
  let asked = 0
  const ratio = new TraceIdRatioBasedSampler(0)
  const never: Sampler = {
    shouldSample: (...args) => {
      asked++
      return ratio.shouldSample(args[0], args[1])
    },
    toString: () => "never"
  }
  return Effect.gen(function*() {
    const run = (options: Tracing.Options) =>
      traced(
        (spans) =>
          Effect.gen(function*() {
            const bus = yield* EventBus.EventBus
            const seen: Array<unknown> = []
            yield* bus.subscribe(orders, (_, { headers }) =>
              Effect.map(Effect.option(Effect.currentParentSpan), (parent) => {
                seen.push([String(headers["traceparent"]).slice(-2), parent._tag === "Some" && parent.value.sampled])
              }), { onExhausted: FailurePolicy.drop })
            asked = 0
            yield* bus.publish(orders, placed("a", 1))
            yield* eventually("it is handled", () => seen.length === 1)
            expect(spans()).toEqual([])
            return [asked, seen[0], yield* Effect.option(Effect.currentParentSpan)] as const
          }).pipe(Effect.scoped),
        options,
        new ParentBasedSampler({ root: never })
      )
    expect((yield* run({})).slice(0, 2)).toEqual([1, ["00", false]])
    expect((yield* run({ followSampling: false })).slice(0, 2)).toEqual([2, ["00", false]])
    expect((yield* run({ relation: "child" })).slice(0, 2)).toEqual([1, ["00", false]])
  })
})

it.live("a producer that was not sampled is heeded in any letters of its header, and among several values", () => {
  const orders = topicOf()
  const unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
  return traced((spans) =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let handled = 0
      yield* bus.subscribe(orders, () => Effect.sync(() => handled++), { onExhausted: FailurePolicy.drop })
      for (
        const headers of [{ TraceParent: unsampled }, { traceparent: [unsampled] }, { traceparent: ` ${unsampled}` }]
      ) {
        yield* bus.publish(orders, { ...placed("a", 1), headers })
      }
      yield* eventually("all are handled", () => handled === 3)
      expect(spans().map(({ name }) => name)).toEqual(Array(3).fill(`publish ${orders.name}`))
    }).pipe(Effect.scoped)
  )
})

it.live("without a tracer nothing is added to messages and no handler has a span", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const seen: Array<unknown> = []
    yield* bus.subscribe(
      orders,
      (_, { envelope: { traceId }, headers }) =>
        Effect.map(Effect.option(Effect.currentParentSpan), ({ _tag }) => seen.push([headers, traceId, _tag])),
      { onExhausted: FailurePolicy.drop }
    )
    yield* Effect.withSpan(bus.publish(orders, placed("a", 1)), "request")
    yield* eventually("it is handled", () => seen.length === 1)
    expect(seen).toEqual([[{}, undefined, "None"]])
  }).pipe(Effect.scoped, Effect.provide(busWith(Tracing.layer())))
})

it.live("spans of messages that a closing bus gives back end, and say that they come again", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const started = yield* Deferred.make<void>()
    const seen = yield* traced((spans) =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* Effect.scoped(Effect.gen(function*() {
          const subscription = yield* bus.subscribe(
            orders,
            () => Effect.zipRight(Deferred.succeed(started, undefined), Effect.never),
            { onExhausted: FailurePolicy.drop }
          )
          yield* bus.publish(orders, placed("a", 1))
          yield* Deferred.await(started)
          yield* subscription.close
        }))
        return named(spans(), `process ${orders.name}`)
      })
    )
    expect(seen.attributes["eventbus.outcome"]).toBe("unfinished")
    expect(seen.status.code).toBe(SpanStatusCode.OK)
  })
})
