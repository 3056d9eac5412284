/**
 * Rule 13: each attempt stands alone.
 *
 * @since 0.1.0
 */
import { type Delivery, EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as List from "effect/List"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const step = (sequence: number) => new Step({ sequence, fails: 0, dies: 0, takes: 0 })

const mark = FiberRef.unsafeMake("untouched")

/** Records what attempts see of each other. */
class Traces {
  open = 0
  opened = 0
  readonly seen: Array<string> = []

  /** An attempt begins. It records what others have left, and leaves all that it can. */
  readonly attempt: Effect.Effect<void, never, Scope.Scope> = Effect.gen(this, function*() {
    if (this.open > 0) this.seen.push(`${this.open} open resources`)
    const value = yield* FiberRef.get(mark)
    if (value !== "untouched") this.seen.push(`a FiberRef set to ${value}`)
    if (HashMap.has(yield* FiberRef.get(FiberRef.currentLogAnnotations), "mine")) this.seen.push("a log annotation")
    if (List.isCons(yield* FiberRef.get(FiberRef.currentLogSpan))) this.seen.push("a log span")
    const parent = yield* Effect.option(Effect.currentParentSpan)
    if (Option.isSome(parent)) this.seen.push("a parent span")
    yield* FiberRef.set(mark, "touched")
    yield* Effect.annotateLogsScoped("mine", true)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        this.open++
        this.opened++
      }),
      () => Effect.zipRight(Effect.yieldNow(), Effect.sync(() => this.open--))
    )
  })
}

/** Changes all that it can reach of an object. */
const spoil = (value: unknown): void => {
  if (value instanceof Uint8Array) return void value.fill(0x20)
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return
  for (const key of Object.keys(value)) Reflect.set(value, key, "spoiled")
}

const spoiling = (subject: Subject): void => {
  test("rule 13: what an attempt does to its event and envelope is not seen by the next one, nor by the dead letter", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("spoiled", 1)
        const dead = newTopic("spoiled-dead", 1)
        const seen: Array<string> = []
        const letters: Array<string> = []
        yield* bus.subscribe(topic, (event, { attempt, envelope }) =>
          Effect.suspend(() => {
            seen.push(JSON.stringify([event, envelope.payload, envelope.aggregateId]))
            spoil(event)
            spoil(envelope.payload)
            spoil(envelope)
            return attempt === 2 ? Effect.die("died") : Effect.fail("failed")
          }), { onExhausted: FailurePolicy.deadLetter(dead), retry: Schedule.recurs(2) })
        yield* bus.subscribe(
          dead,
          (event, { aggregateId }) => Effect.sync(() => letters.push(JSON.stringify([event, aggregateId]))),
          orDrop
        )
        yield* bus.publish(topic, { aggregateId: "order-1", payload: step(1) })
        yield* eventually("it is dead", () => letters.length === 1)
        // Where nothing is restarted, the attempt that dies is the last one.
        expect(seen.length).toBeGreaterThan(subject.strategy?.restart === "never" ? 1 : 2)
        expect(new Set(seen).size).toBe(1)
        expect(JSON.parse(letters[0]!)).toEqual([JSON.parse(seen[0]!)[0], "order-1"])
      })
    ))

  test("rule 13: each attempt of an at-least-once plain message has bytes of its own", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.plain(newName("spoiled-bytes"), { partitions: 1 })
        const dead = Topic.plain(newName("spoiled-bytes-dead"), { partitions: 1 })
        const seen: Array<string> = []
        const letters: Array<string> = []
        const text = (bytes: Uint8Array | null) => new TextDecoder().decode(bytes ?? new Uint8Array(0))
        yield* bus.subscribe(topic, (body, { value }) =>
          Effect.suspend(() => {
            seen.push(`${text(body)} ${text(value)}`)
            spoil(body)
            spoil(value)
            return Effect.fail("failed")
          }), {
          semantics: "at-least-once",
          onExhausted: FailurePolicy.deadLetter(dead),
          retry: Schedule.recurs(2)
        })
        yield* bus.subscribe(dead, (body) => Effect.sync(() => letters.push(text(body))))
        yield* bus.publish(topic, { body: "precious", key: "k" })
        yield* eventually("it is dead", () => letters.length === 1)
        expect(seen).toEqual(["precious precious", "precious precious", "precious precious"])
        expect(letters).toEqual(["precious"])
      })
    ))
}

/**
 * @since 0.1.0
 * @category rules
 */
export const isolation = (subject: Subject): void => {
  spoiling(subject)
  // A handler with a timeout runs in a fiber of its own, which hides what the handler sets.
  for (const handlerTimeout of ["200 millis", undefined] as const) {
    test(`rule 13: what an attempt opens, sets or begins is not seen by the next one, ${handlerTimeout === undefined ? "without" : "with"} a timeout`, () =>
      Effect.gen(function*() {
        const traces = new Traces()
        yield* inBus(
          subject.layer,
          Effect.gen(function*() {
            const bus = yield* EventBus.EventBus
            const topic = newTopic("isolated", 1)
            let ended = 0
            let hangs = false
            // The test subscribes within a span, as the start of a program does.
            yield* bus.subscribe(topic, ({ sequence }, { attempt }) =>
              Effect.gen(function*() {
                yield* traces.attempt
                if (sequence === 5) hangs = true
                // The attempts end by a typed failure, a defect, a timeout, an interruption by the handler itself, and a success.
                if (attempt === 1 && sequence === 1) return yield* Effect.fail("failed")
                if (attempt === 1 && sequence === 2) return yield* Effect.die("died")
                if (attempt === 1 && sequence === 3 && handlerTimeout !== undefined) return yield* Effect.never
                if (attempt === 1 && sequence === 4) return yield* Effect.interrupt
                if (sequence === 5) return yield* Effect.never
                ended++
              }), { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }), handlerTimeout })
              .pipe(
                Effect.withSpan("startup"),
                Effect.withLogSpan("startup")
              )
            yield* bus.publishAll(topic, [0, 1, 2, 3, 4].map((i) => ({ aggregateId: "order-1", payload: step(i) })))
            yield* eventually("all are handled", () => ended === 5)
            yield* eventually("what the last one opened is released", () => traces.open === 0, "2 seconds")
            expect(traces.seen).toEqual([])
            expect(traces.opened).toBe(handlerTimeout === undefined ? 8 : 9)
            // One message is in hand when the bus closes.
            yield* bus.publish(topic, { aggregateId: "order-1", payload: step(5) })
            yield* eventually("the last one hangs", () => hangs)
          }),
          { closeDeadline: "10 millis" }
        )
        expect(traces.open).toBe(0)
      }))
  }

  test("rule 13: nor are those of plain messages, with and without a key", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.plain(newName("isolated-plain"), { partitions: 1 })
        const traces = new Traces()
        let started = 0
        // Handlers run one at a time, so whatever is open belongs to an attempt that should have ended.
        yield* bus.subscribe(topic, () =>
          Effect.gen(function*() {
            yield* traces.attempt
            started++
            if (started % 3 === 1) return yield* Effect.fail("failed")
            if (started % 3 === 2) return yield* Effect.die("died")
          }), { concurrency: 1 })
        yield* bus.publishAll(
          topic,
          Array.from({ length: 18 }, (_, i) => ({ key: i % 2 === 0 ? "order-1" : undefined, body: "click" }))
        )
        yield* eventually("all are handled", () => started === 18)
        yield* eventually("all is released", () => traces.open === 0, "2 seconds")
        expect(traces.seen.filter((one) => !one.endsWith("open resources"))).toEqual([])
      })
    ))

  test("rule 13: a delivery is plain data, which does not change afterwards", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("plain-data", 1)
        const deliveries: Array<Delivery.EnvelopeDelivery> = []
        yield* bus.subscribe(topic, (_, delivery) =>
          Effect.suspend(() => deliveries.push(delivery) === 1 ? Effect.fail("failed") : Effect.void), {
          onExhausted: FailurePolicy.drop
        })
        yield* bus.publish(topic, { aggregateId: "order-1", payload: step(7), traceId: "trace" })
        yield* eventually("it is handled the second time", () =>
          deliveries.length === 2)
        expect(deliveries.map(({ attempt }) =>
          attempt
        )).toEqual([1, 2])
        const delivery = deliveries[0]!
        const known = { topic: topic.name, group: "group", aggregateId: "order-1", attempt: 1, offset: delivery.offset }
        expect({ ...delivery }).toMatchObject(known)
        expect(structuredClone(delivery)).toMatchObject(known)
        expect(structuredClone(delivery).envelope).toMatchObject({ aggregateId: "order-1", traceId: "trace" })
        const written = JSON.parse(JSON.stringify(delivery)) as Delivery.EnvelopeDelivery
        expect(written).toMatchObject(known)
        // The envelope has these fields and no others.
        expect(Object.keys(written.envelope).sort()).toEqual([
          "aggregateId",
          "eventId",
          "eventType",
          "eventVersion",
          "payload",
          "payloadJson",
          "timestamp",
          "traceId"
        ])
        expect(written.envelope.payload).toMatchObject({ _tag: "Step", sequence: 7 })
        expect(JSON.parse(written.envelope.payloadJson)).toEqual(written.envelope.payload)
      })
    ))
}
