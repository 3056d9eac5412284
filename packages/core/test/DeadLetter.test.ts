import type { Delivery, Transport } from "@effect-eventbus/core"
import {
  DeadLetter as Letters,
  EventBus,
  EventBusConfig,
  EventBusError,
  FailurePolicy,
  type Headers,
  MemoryBroker,
  MemoryTransport,
  Topic,
  Transport as TransportModule
} from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Either, FastCheck, Fiber, Layer, Logger, Option, Schedule, TestClock } from "effect"
import { EnvelopeFailure } from "../src/Failure.js"
import * as DeadLetter from "../src/internal/deadLetter.js"
import { eventually, settle } from "./Eventually.js"
import { Bad, Dead, Orders, placed, provideBus, RawOrders } from "./Orders.js"

const dead = { name: "dead", kind: "envelope" as const }

const workOf = (headers: Headers.Headers, timestamp = 5) => ({
  group: "group",
  aggregateId: "a",
  message: {
    topic: "orders",
    partition: 1,
    offset: 2,
    key: null,
    value: new Uint8Array([1]),
    headers,
    timestamp,
    maybeDuplicate: false,
    deliveryCount: undefined
  }
})

/** Publishes the dead letter of a message to a broker that refuses some messages; what was written, and how many tries it took. */
const written = (
  work: DeadLetter.Original,
  refuse: (message: Transport.OutgoingMessage) => EventBusError.PublishError | undefined,
  cause: Cause.Cause<unknown> = Cause.fail("c".repeat(100))
) =>
  Effect.gen(function*() {
    let tries = 0
    let found: Transport.OutgoingMessage | undefined
    const transport = {
      publish: (_: unknown, [message]: ReadonlyArray<Transport.OutgoingMessage>) =>
        Effect.sync(() => {
          tries++
          const error = refuse(message!)
          if (error !== undefined) return [Either.left(error)]
          found = message
          return [Either.right({ topic: "dead", partition: 0, offset: 0 })]
        })
    } as unknown as Transport.Service
    const failure = new EnvelopeFailure({
      position: work.message,
      group: "group",
      aggregateId: "a",
      attempts: 1,
      restarts: 0,
      policy: FailurePolicy.drop,
      cause
    })
    yield* DeadLetter.publisher(transport, Duration.seconds(1), Schedule.recurs(3))(dead, work, failure)
    return { tries, ...found! }
  })

const invalid = new EventBusError.InvalidMessage({ topic: "dead", issue: "a header name" })
const sizeOf = ({ headers }: Transport.OutgoingMessage) => JSON.stringify(headers).length

it.effect("a dead letter keeps its headers as they are where the broker takes them, and leaves out the cause where they don't fit", () =>
  Effect.gen(function*() {
    const whole = yield* written(workOf({ page: "/" }), () => undefined)
    expect(whole).toMatchObject({ tries: 1, headers: { page: "/", "X-Dead-Letter-Topic": "orders" } })
    expect(whole.headers).toHaveProperty("X-Dead-Letter-Cause")
    const limit = sizeOf(whole) - 1
    for (const error of [invalid, new EventBusError.MessageTooLarge({ topic: "dead", size: 2, limit: 1 })]) {
      const tight = yield* written(workOf({ page: "/" }), (message) => sizeOf(message) > limit ? error : undefined)
      expect(tight).toMatchObject({ tries: 2, headers: { page: "/" } })
      expect(tight.headers).not.toHaveProperty("X-Dead-Letter-Cause")
    }
  }))

it.effect("headers that the broker's client can't write are text in one that it can; no message is stuck because of them", () =>
  Effect.gen(function*() {
    const refuse = ({ headers }: Transport.OutgoingMessage) =>
      Object.entries(headers).some(([name, value]) => / /.test(name) || !/^[ -~]*$/.test(String(value)))
        ? invalid
        : undefined
    const { headers, tries } = yield* written(
      workOf({ "Foo Bar": ["ä\n", "second"], bytes: new TextEncoder().encode("b") }),
      refuse
    )
    expect(tries).toBe(3)
    expect(headers["X-Dead-Letter-Offset"]).toBe("2")
    expect(JSON.parse(String(headers["X-Dead-Letter-Headers"]))).toEqual([["Foo Bar", "ä\n", "second"], ["bytes", "b"]])
    const huge = yield* written(workOf({ "Foo Bar": "x".repeat(20_000) }), refuse)
    expect(huge.headers).not.toHaveProperty("X-Dead-Letter-Headers")
    expect(huge.headers["X-Dead-Letter-Topic"]).toBe("orders")
    const large = new EventBusError.MessageTooLarge({ topic: "dead", size: 2, limit: 1 })
    const narrow = yield* written(
      workOf({ page: "x".repeat(1_000) }),
      (message) => sizeOf(message) > 500 ? large : undefined
    )
    expect([narrow.tries, "X-Dead-Letter-Headers" in narrow.headers]).toEqual([4, false])
  }))

it.effect("a dead letter is as old as its publishing, or retention would soon delete that of an old event; the original's time is a header", () =>
  Effect.gen(function*() {
    // Kafka's −1 says that there is none, and foreign producers write nanoseconds: no broker would take these.
    for (const time of [5, -1, 1.7e18]) {
      const { headers, timestamp } = yield* written(workOf({}, time), () => undefined)
      expect([timestamp, headers["X-Dead-Letter-Timestamp"]]).toEqual([undefined, String(time)])
    }
  }))

it.effect("whatever an error is called and says, what the bus adds has a bound, and no letter is refused because of it", () =>
  Effect.gen(function*() {
    const tooLarge = new EventBusError.MessageTooLarge({ topic: "dead", size: 2, limit: 1 })
    for (const error of [{ _tag: "T".repeat(1_100_000) }, new Error("x".repeat(1_100_000)), "x".repeat(1_100_000)]) {
      const { headers } = yield* written(workOf({}), () => undefined, Cause.fail(error))
      expect(JSON.stringify(headers).length).toBeLessThan(3_000)
    }
    // Ever less is tried: without the cause, with the headers as text, without them, the position, nothing.
    for (
      const [limit, names, tries] of [
        [2_000, ["page", "X-Dead-Letter-Topic", "X-Dead-Letter-Error"], 2],
        [1_000, ["X-Dead-Letter-Topic", "X-Dead-Letter-Error", "X-Dead-Letter-Attempts"], 4],
        [150, ["X-Dead-Letter-Topic", "X-Dead-Letter-Partition", "X-Dead-Letter-Offset"], 5],
        [10, [], 6]
      ] as const
    ) {
      const letter = yield* written(
        workOf({ page: "p".repeat(900) }),
        (message) => sizeOf(message) > limit ? tooLarge : undefined,
        Cause.fail({ _tag: "T".repeat(1_000), message: "x".repeat(10_000) })
      )
      expect(letter.tries).toBe(tries)
      expect(Object.keys(letter.headers)).toEqual(expect.arrayContaining([...names]))
      expect(letter.value).toEqual(new Uint8Array([1]))
      if (limit === 10) expect(letter.headers).toEqual({})
    }
  }))

const duplicate = (outcome: "unknown" | "not-written") =>
  new EventBusError.PublishFailed({ topic: "dead", reason: "Duplicate", outcome })

it.effect("where another message has its id a letter gets another one; it is lost in no case", () =>
  Effect.gen(function*() {
    const refused = new Set<string>()
    const first = yield* written(workOf({}), () => undefined)
    const other = yield* written(workOf({}), ({ id }) => {
      if (refused.size > 1) return undefined
      refused.add(id!)
      return duplicate("not-written")
    })
    expect(other.tries).toBe(3)
    expect([...refused, other.id]).toEqual([first.id, `${first.id}/2`, `${first.id}/3`])
    // Where all ids are taken, it is tried again, by the schedule.
    const late = yield* Effect.exit(written(workOf({}), () => duplicate("not-written")))
    expect(late._tag).toBe("Failure")
    // A message that has the same offset later, in a topic that was made again, has another id from the start.
    expect((yield* written(workOf({}, 6), () => undefined)).id).not.toBe(first.id)
  }))

it.effect("a letter that an earlier try has written, and that can't be compared, counts as written", () =>
  Effect.gen(function*() {
    expect(yield* written(workOf({}), () => duplicate("unknown"))).toEqual({ tries: 1 })
  }))

it.effect("letters that can't be published are said once it lasts, each minute, and when it is over", () =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
    let isDown = true
    const unreachable = new EventBusError.PublishFailed({
      topic: "dead",
      reason: "Unreachable",
      outcome: "not-written"
    })
    const transport = {
      publish: () =>
        Effect.sync(
          () => [isDown ? Either.left(unreachable) : Either.right({ topic: "dead", partition: 0, offset: 0 })]
        )
    } as unknown as Transport.Service
    const publish = DeadLetter.publisher(transport, Duration.seconds(1), Schedule.spaced("1 second"))
    const failure = { cause: Cause.fail("f"), attempts: 1, restarts: 0 } as EnvelopeFailure
    const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(publish(dead, workOf({}), failure))).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
    yield* TestClock.adjust("9 seconds")
    expect(lines).toEqual([])
    yield* TestClock.adjust("2 minutes")
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(
      /^Dead letters can't be published, .* for 10 s \(3 now\)\. A publish to topic "dead" could not reach/
    )
    isDown = false
    yield* TestClock.adjust("1 second")
    yield* Fiber.joinAll(fibers)
    expect(lines.slice(2)).toEqual([expect.stringMatching(/^It is over, after 130 s: Dead letters/)])
  }))

it.scoped("a dead letter is read again: where it stood, why, and the message as it was", () =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const letters: Array<Letters.DeadLetter> = []
    yield* bus.subscribe(
      Topic.plain("dead", { partitions: 1 }),
      (_, delivery) => Effect.map(Letters.fromDelivery(delivery), (letter) => letters.push(letter))
    )
    yield* bus.subscribe(Orders, () => new Bad({ n: 7 }), {
      onExhausted: FailurePolicy.deadLetter("dead"),
      retry: Schedule.recurs(2)
    })
    const body = JSON.stringify({
      event_id: "e",
      aggregate_id: "a",
      event_type: "Placed",
      event_version: 1,
      timestamp: "2026-11-21T09:30:00Z",
      payload: { _tag: "Placed", n: 1 }
    })
    const headers = { page: "/", many: ["a", "b"], bytes: Uint8Array.of(255), "x-dead-letter-box": "mine" }
    yield* bus.publish(RawOrders, { body, key: "order 1", headers })
    yield* bus.publish(RawOrders, { body: "junk" })
    yield* eventually("both letters are read", () => letters.length === 2)
    expect(letters[0]).toEqual({
      position: { topic: "orders", partition: 0, offset: 0 },
      group: "group",
      attempts: 3,
      restarts: 0,
      error: "Bad",
      cause: expect.stringContaining("Bad { n: 7 }"),
      frame: expect.stringMatching(/DeadLetter\.test\.[jt]s:\d+:\d+/),
      timestamp: 0,
      original: { key: new TextEncoder().encode("order 1"), value: new TextEncoder().encode(body), headers }
    })
    expect(letters[1]).toMatchObject({
      position: { offset: 1 },
      attempts: 0,
      error: "DecodeError",
      cause: expect.stringContaining("is not JSON"),
      original: { key: null, headers: {} }
    })
    expect(letters[1]!.cause).not.toContain("junk")
  }).pipe(provideBus()))

it.effect("headers that became text come back, and what others wrote into ours is believed as far as it fits", () =>
  Effect.gen(function*() {
    const refuse = ({ headers }: Transport.OutgoingMessage) =>
      Object.keys(headers).some((name) => / /.test(name)) ? invalid : undefined
    const { headers } = yield* written(workOf({ "Foo Bar": ["ä\n", "second"], one: "1", __proto__: "p" }), refuse)
    const read = (headers: Headers.Headers) =>
      Letters.fromDelivery({ headers, key: null, value: null } as Delivery.Delivery)
    expect(Option.getOrThrow(read(headers)).original.headers).toEqual({ "Foo Bar": ["ä\n", "second"], one: "1" })
    const position = { "x-dead-letter-topic": "t", "X-DEAD-LETTER-PARTITION": "1", "X-Dead-Letter-Offset": "2" }
    const nothing = { group: undefined, attempts: undefined, restarts: undefined, error: undefined, cause: undefined }
    for (const text of ["", "{", "{}", "[1]", "[[1]]", "[[]]", "null"]) {
      expect(Option.getOrThrow(read({ ...position, "X-Dead-Letter-Headers": text }))).toEqual({
        position: { topic: "t", partition: 1, offset: 2 },
        ...nothing,
        timestamp: undefined,
        original: { key: null, value: null, headers: {} }
      })
    }
    expect(Option.isNone(read({}))).toBe(true)
    expect(Option.isNone(read({ ...position, "X-Dead-Letter-Offset": "two" }))).toBe(true)
  }))

it.prop("no header makes reading throw", [
  FastCheck.dictionary(
    FastCheck.constantFrom(...Object.values(Letters.headerNames), "__proto__", "other"),
    FastCheck.oneof(FastCheck.string(), FastCheck.uint8Array(), FastCheck.array(FastCheck.string()))
  )
], ([headers]) => {
  Letters.fromDelivery({ headers, key: null, value: null })
})

it.live("a letter is tried again also where the transport dies", () =>
  Effect.gen(function*() {
    let tries = 0
    const letter = yield* written(workOf({}), () => {
      if (++tries < 3) throw new Error("a broken transport")
      return undefined
    })
    expect([tries, letter.id]).toEqual([3, "orders/1/2/group/5"])
  }))

it.scoped("letters that can't be published are said once they have lasted for 10 s, shown in the status, and said to be over", () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel.label} ${String(message)}`))
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const broker = yield* MemoryBroker.MemoryBroker
    yield* broker.createTopic("orders", 1)
    const subscription = yield* bus.subscribe(Orders, () => new Bad({}), {
      onExhausted: FailurePolicy.deadLetter(Dead),
      retry: Schedule.stop
    })
    const said = () => lines.filter((line) => line.includes("ead letter"))
    const problems = Effect.map(subscription.status, (status) => status?.problems)
    yield* bus.publishAll(Orders, [placed("a", 0), placed("b", 1), placed("c", 2)])
    yield* settle
    yield* TestClock.adjust("5 seconds")
    yield* settle
    expect(said()).toEqual([])
    expect(yield* problems).toMatchObject([{
      message: expect.stringContaining("\"dead\""),
      since: 0,
      kind: "dead-letter"
    }])
    yield* TestClock.adjust("2 minutes")
    yield* settle
    expect(said()[0]).toMatch(/^WARN Dead letters can't be published, .*"dead"/)
    const before = said().length
    yield* broker.createTopic("dead", 1)
    yield* TestClock.adjust("1 minute")
    yield* eventually("it is over", () => said().length > before)
    expect(said().slice(before)).toEqual([expect.stringMatching(/^WARN It is over, after \d+ s: Dead letters/)])
    expect(yield* problems).toEqual([])
    expect(yield* subscription.stats).toMatchObject({ deadLettered: 3 })
  }).pipe(
    Effect.provide(EventBus.layer.pipe(
      Layer.provideMerge(Layer.effect(
        TransportModule.Transport,
        Effect.map(MemoryTransport.make, (inner) => ({
          ...inner,
          subscribe: (request, consumer) =>
            Effect.map(inner.subscribe(request, consumer), (source) => ({
              ...source,
              status: Effect.succeed({ isConnected: true, partitions: [], problems: [] })
            }))
        } satisfies Transport.Service))
      )),
      Layer.provideMerge(MemoryBroker.layer({ topics: "validate" })),
      Layer.provideMerge(EventBusConfig.layer({}))
    )),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger))
  )
})
