/** Dead letters by hand. On the transports that keep them it is in their own tests. */
import {
  DeadLetter,
  DeadLetters,
  EventBus,
  EventBusError,
  FailurePolicy,
  Headers,
  MemoryBroker,
  MemoryTransport,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, FastCheck, Fiber, Layer, Schedule, Stream, TestClock } from "effect"
import { describe } from "vitest"
import { eventually } from "./Eventually.js"
import { Bad, Clicks, Orders, Placed, placed, provideBus, text, Worse } from "./Orders.js"

const provided = MemoryTransport.layerBroker.pipe(Layer.provideMerge(MemoryBroker.layer({})))

const by = { who: "ann", why: "INC-7" }
const timeout = Duration.seconds(5)

const provideTransport = Effect.provide(provided)

/** A letter of an order, as a subscription would write it. */
const letterOf = (
  aggregateId: string,
  n: number,
  { error = "Bad", frame = "pay (/app/pay.ts:1:2)", topic = "orders" } = {}
): Transport.OutgoingMessage => {
  const value = {
    event_id: `${aggregateId}-${n}`,
    aggregate_id: aggregateId,
    event_type: "Placed",
    event_version: 1,
    timestamp: "2026-11-28T10:00:00Z",
    payload: { _tag: "Placed", n }
  }
  return {
    id: undefined,
    aggregateId,
    key: null,
    value: Buffer.from(JSON.stringify(value)),
    headers: {
      own: "kept",
      [DeadLetter.headerNames.topic]: topic,
      [DeadLetter.headerNames.partition]: "0",
      [DeadLetter.headerNames.offset]: String(n),
      [DeadLetter.headerNames.timestamp]: "1700000000000",
      [DeadLetter.headerNames.error]: error,
      [DeadLetter.headerNames.frame]: frame
    },
    timestamp: undefined
  }
}

const dead: Transport.TopicSpec = { name: "dead", kind: "envelope", partitions: 2 }

const written = (messages: ReadonlyArray<Transport.OutgoingMessage>, spec = dead) =>
  Effect.gen(function*() {
    const transport = yield* Transport.Transport
    expect(Either.all(yield* transport.publish(spec, messages, { timeout }))._tag).toBe("Right")
  })

/** What is in a topic, by aggregate, in its order. */
const ordersIn = (spec: Transport.TopicSpec = Orders.spec) =>
  Effect.scoped(Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const partitions = yield* transport.read!({ topic: spec, from: "earliest", to: "now" })
    const found = yield* Effect.forEach(partitions, ({ messages }) => Stream.runCollect(messages))
    const byAggregate: Record<string, Array<number>> = {}
    for (const { value } of found.flatMap((chunk) => Chunk.toReadonlyArray(chunk))) {
      const { aggregate_id, payload } = JSON.parse(text(value))
      byAggregate[aggregate_id] = [...byAggregate[aggregate_id] ?? [], payload.n]
    }
    return byAggregate
  }))

const lettersOf = (letters: DeadLetters.DeadLetters, target?: DeadLetters.Target) =>
  Effect.map(
    Stream.runCollect(letters.letters(target)),
    (all) =>
      Chunk.toReadonlyArray(all).map(({ aggregate, content: { position } }) => `${aggregate} ${position.offset}`).sort()
  )

const made = DeadLetters.make({ kind: "envelope", name: "dead", spec: dead }, { topics: [Orders] })

/** The transport, some of whose calls go wrong. */
const withTransport = <A, E, R>(
  change: (transport: Transport.Service) => Partial<Transport.Service>,
  effect: Effect.Effect<A, E, R>
) =>
  Effect.flatMap(
    Transport.Transport,
    (transport) => Effect.provideService(effect, Transport.Transport, { ...transport, ...change(transport) })
  )

describe("dead letters by hand", () => {
  it.scopedLive("are grouped by error and place, released in order per aggregate, and come again as new letters", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let isRepaired = false
      const handled: Array<string> = []
      const headers: Array<Headers.Headers> = []
      const subscription = yield* bus.subscribe(
        Orders,
        (event, { aggregateId, headers: own }) =>
          Effect.suspend((): Effect.Effect<void, Bad | Worse> => {
            const n = event._tag === "Placed" ? event.n : -1
            if (n === 2) return Effect.fail(new Worse())
            if (!isRepaired) return Effect.fail(new Bad({ n }))
            headers.push(own)
            handled.push(`${aggregateId} ${n}`)
            return Effect.void
          }),
        { onExhausted: FailurePolicy.deadLetter("dead"), retry: Schedule.recurs(0) }
      )
      yield* bus.publishAll(Orders, [placed("a", 0), placed("b", 0), placed("a", 1), placed("a", 2), placed("b", 1)])
      const letters = yield* DeadLetters.make("dead", { topics: [Orders] })
      const given = (count: number) => () => Effect.runSync(subscription.stats).deadLettered === count
      yield* eventually("all are dead-lettered", given(5))
      const [bad, worse] = yield* letters.groups()
      expect(bad).toMatchObject({
        letters: 4,
        aggregates: 2,
        cause: expect.stringMatching(/^Bad at .*DeadLetters\.test/)
      })
      expect(bad!.message).toMatch(/^Bad/)
      expect(bad!.first).toBeLessThanOrEqual(bad!.last)
      expect(worse).toMatchObject({ letters: 1, aggregates: 1, cause: expect.stringMatching(/^Worse at /) })
      isRepaired = true
      expect(yield* letters.release({ cause: bad!.cause }, { ...by, dryRun: true })).toMatchObject({ letters: 4 })
      expect(handled).toEqual([])
      expect(yield* letters.release({ cause: bad!.cause }, by)).toEqual({
        letters: 4,
        recognized: 0,
        refused: [],
        refusals: 0,
        behind: 0,
        elsewhere: 0,
        done: 0,
        strangers: 0
      })
      yield* eventually("they are handled", () => handled.length === 4)
      expect(handled.filter((one) => one.startsWith("a"))).toEqual(["a 0", "a 1"])
      // Of another aggregate one may be handled first.
      const first = headers.find((one) => Headers.get(one, "X-Released-From") === "dead/0/0")
      expect(first).toMatchObject({
        "X-Released-Id": expect.stringMatching(/^released\/dead-letters\/dead\/0\/0\//),
        "X-Released-Timestamp": expect.stringMatching(/^\d+$/),
        "X-Released-Count": "1",
        "X-Released-By": "ann",
        "X-Released-Why": "INC-7"
      })
      expect(Object.keys(first!).filter((name) => name.startsWith("X-Dead-Letter"))).toEqual([])
      // The other one fails again: it is another letter, whose release is the second one.
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 1, done: 4 })
      yield* eventually("it is a letter again", given(6))
      const [again] = Chunk.toReadonlyArray(yield* Stream.runCollect(letters.letters()))
      expect(Headers.get(again!.content.original.headers, "X-Released-Count")).toBe("1")
      expect(again).toMatchObject({ aggregate: "a", position: { offset: 5 }, content: { position: { offset: 9 } } })
      expect(yield* letters.discard({ aggregate: "a" }, by)).toMatchObject({ letters: 1, done: 5 })
      expect(yield* letters.groups()).toEqual([])
      // Another tool, or the same one tomorrow, knows it.
      const tomorrow = yield* DeadLetters.make("dead", { topics: [Orders] })
      expect(yield* tomorrow.release("all", by)).toMatchObject({ letters: 0, done: 6 })
    }).pipe(provideBus()))

  it.scoped("of an aggregate, of a cause, or whatever a function picks", () =>
    Effect.gen(function*() {
      yield* written([
        letterOf("a", 0),
        letterOf("a", 1, { error: "Worse" }),
        letterOf("b", 2),
        letterOf("a", 3),
        letterOf("b", 4, { frame: "ship (/app/ship.ts:9:9)" })
      ])
      const letters = yield* made
      expect(yield* lettersOf(letters, { aggregate: "b" })).toEqual(["b 2", "b 4"])
      expect(yield* lettersOf(letters, { cause: "Bad at ship (/app/ship.ts:9:9)" })).toEqual(["b 4"])
      expect(yield* lettersOf(letters, { where: ({ content }) => content.position.offset < 2 })).toEqual(["a 0", "a 1"])
      expect(yield* letters.discard({ where: ({ content }) => content.error === "Worse" }, by)).toMatchObject({
        letters: 1
      })
      expect(yield* letters.release({ aggregate: "a" }, by)).toMatchObject({ letters: 2, done: 1 })
      expect(yield* ordersIn()).toEqual({ a: [0, 3] })
      expect(yield* lettersOf(letters)).toEqual(["b 2", "b 4"])
      // Who remembers under another name begins anew.
      const others = yield* DeadLetters.make({ kind: "envelope", name: "dead", spec: dead }, {
        topics: [],
        group: "others"
      })
      expect(yield* lettersOf(others)).toHaveLength(5)
    }).pipe(provideTransport))

  it.scoped("old letters, which have no header for the place, are grouped by what is in their cause", () =>
    Effect.gen(function*() {
      const withCause = (cause: string) => {
        const letter = letterOf("a", 0)
        const { [DeadLetter.headerNames.frame]: _, ...headers } = letter.headers
        return { ...letter, headers: { ...headers, [DeadLetter.headerNames.cause]: cause } }
      }
      yield* written([
        withCause("Bad: it was at home at pay (/app/pay.ts:3:9) at run (/app/run.ts:1:1) caused by X"),
        withCause("Bad: other words at pay (/app/pay.ts:3:9)"),
        withCause("Bad at file:///app/pay.js:3:9 at x"),
        withCause("Bad: nothing")
      ])
      const groups = yield* (yield* made).groups()
      expect(Object.fromEntries(groups.map(({ cause, letters }) => [cause, letters]))).toEqual({
        "Bad at pay (/app/pay.ts:3:9)": 2,
        "Bad at file:///app/pay.js:3:9": 1,
        Bad: 1
      })
    }).pipe(provideTransport))

  it.scoped("go into the topics that were named, and nowhere else; what is no letter is counted", () =>
    Effect.gen(function*() {
      yield* written([
        letterOf("a", 0),
        letterOf("a", 1, { topic: "payments" }),
        { ...letterOf("a", 2), headers: {} }
      ])
      const letters = yield* made
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 1, elsewhere: 1, strangers: 1 })
      expect(yield* ordersIn()).toEqual({ a: [0] })
      expect(yield* lettersOf(letters)).toEqual(["a 1"])
      expect(yield* letters.discard("all", by)).toMatchObject({ letters: 1, done: 1 })
    }).pipe(provideTransport))

  it.scoped("a tombstone, a plain message and one with a key of bytes come back as they were", () =>
    Effect.gen(function*() {
      const letter = letterOf("a", 0)
      const key = Uint8Array.of(0, 255, 1)
      yield* written([
        { ...letter, value: null },
        {
          ...letter,
          aggregateId: undefined,
          key,
          value: Uint8Array.of(0, 1),
          headers: { ...letter.headers, [DeadLetter.headerNames.topic]: "clicks" }
        }
      ])
      const letters = yield* DeadLetters.make({ kind: "envelope", name: "dead", spec: dead }, {
        topics: [Orders, Clicks]
      })
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 2 })
      const transport = yield* Transport.Transport
      const read = (spec: Transport.TopicSpec) =>
        Effect.flatMap(
          transport.read!({ topic: spec, from: "earliest", to: "now" }),
          ([partition]) => Effect.map(Stream.runCollect(partition!.messages), Chunk.toReadonlyArray)
        )
      expect(yield* read(Orders.spec)).toMatchObject([{ value: null, headers: { own: "kept" } }])
      const [click] = yield* read(Clicks.spec)
      expect([Array.from(click!.key!), Array.from(click!.value!)]).toEqual([[0, 255, 1], [0, 1]])
    }).pipe(provideTransport))

  it.scoped("what is wrong is said before anything is done", () =>
    Effect.gen(function*() {
      yield* written([letterOf("a", 0)])
      const refused = (
        effect: Effect.Effect<unknown, EventBusError.EventBusError | DeadLetters.DeadLettersFailed, never>
      ) => Effect.map(Effect.flip(effect), ({ message }) => message)
      const letters = yield* made
      for (
        const [options, why] of [
          [{ who: " ", why: "x" }, "who: expected"],
          [{ who: "x", why: "" }, "why: expected"],
          [{ ...by, rate: 0 }, "rate: expected"],
          [{ ...by, rate: NaN }, "rate: expected"],
          [{ ...by, batch: 0.5 }, "batch: expected"]
        ] as const
      ) expect(yield* refused(letters.release("all", options))).toContain(why)
      expect(yield* Effect.flip(DeadLetters.make("orders", { topics: [Orders] }))).toMatchObject({
        _tag: "InvalidConfiguration"
      })
      expect(yield* Effect.flip(withTransport(() => ({ read: undefined }), made))).toMatchObject({
        _tag: "ReplayUnsupported"
      })
      const reading = yield* withTransport(() => ({ store: undefined }), made)
      expect(yield* reading.release("all", { ...by, dryRun: true })).toMatchObject({ letters: 1 })
      expect(yield* refused(reading.discard("all", by))).toContain("has no store")
      expect(yield* ordersIn()).toEqual({})
    }).pipe(provideTransport))

  it.scoped("the mark of a letter is none of another one that has its offset, since the topic was made anew", () =>
    Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const store = yield* transport.store!({ topic: dead, group: "dead-letters", name: "released" })
      const garbage = ["", "null", "{", "7", "{\"time\":\"x\"}"].map((value, i) => ({
        key: `${i}`,
        value: Buffer.from(value)
      }))
      for (const partition of [0, 1]) {
        yield* store.write(partition, [...garbage, { key: "0", value: Buffer.from("{\"time\":1}") }, {
          key: "x",
          value: null
        }], { timeout })
      }
      yield* written([letterOf("a", 0), letterOf("a", 1)])
      const letters = yield* made
      expect(yield* lettersOf(letters)).toEqual(["a 0", "a 1"])
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 2, done: 0 })
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 0, done: 2 })
    }).pipe(provideTransport))

  it.scoped("no more in a second than the rate allows", () =>
    Effect.gen(function*() {
      yield* written(Array.from({ length: 30 }, (_, i) => letterOf(`a${i}`, i)))
      const letters = yield* made
      const releasing = yield* Effect.fork(letters.release("all", { ...by, rate: 10 }))
      yield* TestClock.adjust("1 second")
      const first = Object.keys(yield* ordersIn()).length
      expect(first).toBeGreaterThanOrEqual(10)
      expect(first).toBeLessThanOrEqual(12)
      yield* TestClock.adjust("3 seconds")
      expect(yield* Fiber.join(releasing)).toMatchObject({ letters: 30 })
    }).pipe(provideTransport))

  it.scoped("behind a letter that is refused its aggregate stays, and the others go on", () =>
    Effect.gen(function*() {
      yield* written([letterOf("a", 0), letterOf("b", 0), letterOf("a", 1), letterOf("a", 2), letterOf("b", 1)])
      const letters = yield* withTransport(({ publish }) => ({
        publish: (topic, messages, options) =>
          text(messages[0]!.value).includes("\"a-1\"")
            ? Effect.succeed([Either.left(new EventBusError.MessageTooLarge({ topic: topic.name, size: 1 }))])
            : publish(topic, messages, options)
      }), made)
      const report = yield* letters.release("all", by)
      expect(report).toMatchObject({ letters: 3, refusals: 1, behind: 1 })
      expect(report.refused).toMatchObject([{ error: { _tag: "MessageTooLarge" } }])
      expect(yield* ordersIn()).toEqual({ a: [0], b: [0, 1] })
      // They are there still, in order.
      expect(yield* (yield* made).release("all", by)).toMatchObject({ letters: 2, done: 3 })
      expect(yield* ordersIn()).toEqual({ a: [0, 1, 2], b: [0, 1] })
    }).pipe(provideTransport))

  it.scoped("without the headers that are added, where the broker takes the original only", () =>
    Effect.gen(function*() {
      yield* written([letterOf("a", 0)])
      const letters = yield* withTransport(({ publish }) => ({
        publish: (topic, messages, options) =>
          Object.keys(messages[0]!.headers).length > 1
            ? Effect.succeed([Either.left(new EventBusError.InvalidMessage({ topic: topic.name, issue: "headers" }))])
            : publish(topic, messages, options)
      }), made)
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 1, refusals: 0 })
    }).pipe(provideTransport))

  const failing = new EventBusError.PublishFailed({ topic: "orders", reason: "Unreachable", outcome: "not-written" })
  it.scoped("a broker that is away ends it, with what was done; said again it goes on", () =>
    Effect.gen(function*() {
      yield* written([letterOf("a", 0), letterOf("a", 1), letterOf("a", 2)])
      let left = 1
      const letters = yield* withTransport(({ publish }) => ({
        publish: (topic, messages, options) =>
          left-- > 0 ? publish(topic, messages, options) : Effect.succeed(messages.map(() => Either.left(failing)))
      }), made)
      const releasing = yield* Effect.fork(Effect.flip(letters.release("all", by)))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(releasing)).toMatchObject({
        _tag: "DeadLettersFailed",
        uncertain: 0,
        report: { letters: 1 },
        cause: { reason: "Unreachable" }
      })
      left = Infinity
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 2, done: 1 })
      expect(yield* ordersIn()).toEqual({ a: [0, 1, 2] })
    }).pipe(provideTransport))

  it.scoped("a topic that is a pattern stands for its subjects, each of which gets its own letters", () =>
    Effect.gen(function*() {
      yield* written([
        letterOf("a", 0, { topic: "orders.eu" }),
        letterOf("b", 1, { topic: "orders.us" }),
        letterOf("c", 2)
      ])
      const pattern = Topic.envelope("orders.*", Placed)
      const letters = yield* withTransport(
        () => ({ covers: (topic, other) => topic.name === "orders.*" && other.name.startsWith("orders.") }),
        DeadLetters.make({ kind: "envelope", name: "dead", spec: dead }, { topics: [pattern] })
      )
      expect(yield* letters.release("all", by)).toMatchObject({ letters: 2, elsewhere: 1 })
      expect(yield* ordersIn({ name: "orders.eu", kind: "envelope" })).toEqual({ a: [0] })
      expect(yield* ordersIn({ name: "orders.us", kind: "envelope" })).toEqual({ b: [1] })
    }).pipe(provideTransport))

  it.scopedLive("interrupted it first remembers what it has published", () =>
    Effect.gen(function*() {
      yield* written(Array.from({ length: 6 }, (_, n) => letterOf("a", n)))
      let published = 0
      const letters = yield* withTransport(({ publish }) => ({
        publish: (topic, messages, options) =>
          Effect.zipLeft(
            publish(topic, messages, options),
            Effect.suspend(() => {
              published++
              return Effect.sleep("20 millis")
            })
          )
      }), made)
      const releasing = yield* Effect.fork(letters.release("all", by))
      yield* eventually("it is in the middle", () => published === 3)
      yield* Fiber.interrupt(releasing)
      const before = published
      expect(yield* letters.release("all", by)).toMatchObject({ done: before, letters: 6 - before })
      expect(yield* ordersIn()).toEqual({ a: [0, 1, 2, 3, 4, 5] })
    }).pipe(provideTransport))

  it.effect(
    "killed at any point, at worst a batch is released twice, and nothing is lost",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.array(FastCheck.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 12 }),
            FastCheck.array(FastCheck.nat(8), { maxLength: 4 }),
            FastCheck.integer({ min: 1, max: 4 }),
            (aggregates, kills, batch) =>
              Effect.runPromise(
                Effect.scoped(Effect.gen(function*() {
                  const counts: Record<string, number> = {}
                  yield* written(aggregates.map((id) => letterOf(id, counts[id] = (counts[id] ?? -1) + 1)))
                  for (const kill of [...kills, Infinity]) {
                    let left = kill
                    // What the process would have done next, it does not any more.
                    const unlessKilled = <A>(effect: Effect.Effect<A>): Effect.Effect<A> =>
                      Effect.suspend(() => left-- > 0 ? effect : Effect.die("killed"))
                    yield* Effect.exit(Effect.scoped(withTransport(({ publish, store }) => ({
                      publish: (topic, messages, options) => unlessKilled(publish(topic, messages, options)),
                      store: (request) =>
                        Effect.map(store!(request), (made) => ({
                          ...made,
                          write: (partition, changes, options) => unlessKilled(made.write(partition, changes, options))
                        }))
                    }), Effect.flatMap(made, (letters) => letters.release("all", { ...by, batch })))))
                  }
                  const found = yield* ordersIn()
                  let doubles = 0
                  for (const [id, last] of Object.entries(counts)) {
                    const seen = found[id] ?? []
                    expect(new Set(seen)).toEqual(new Set(Array.from({ length: last + 1 }, (_, n) => n)))
                    // It steps back to the letter that was not remembered, and no further.
                    seen.forEach((n, i) => expect(i === 0 ? n : n - seen[i - 1]!).toBeLessThanOrEqual(i === 0 ? 0 : 1))
                    seen.forEach((n, i) => expect(i === 0 || n - seen[i - 1]! >= 0).toBe(true))
                    doubles += seen.length - last - 1
                  }
                  expect(doubles).toBeLessThanOrEqual(kills.length * batch)
                  expect(yield* lettersOf(yield* made)).toEqual([])
                })).pipe(provideTransport) as Effect.Effect<void>
              )
          ),
          { numRuns: 60 }
        )
      ),
    60_000
  )
})
