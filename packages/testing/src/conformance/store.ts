/**
 * The laws of a transport's store: a durable map for each partition of a topic and group. They are skipped where a transport has none.
 *
 * @since 0.1.0
 */
import { Transport } from "@effect-eventbus/core"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { expect, it } from "vitest"
import { isLong, newName, quietly, type Subject } from "./Bench.js"

const timeout = Duration.seconds(20)
const PARTITIONS = 2

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const change = (key: string, value: string | null): Transport.StoreChange => ({
  key,
  value: value === null ? null : bytes(value)
})

type Open = NonNullable<Transport.Service["store"]>

const spec = (name = newName("kept")): Transport.TopicSpec => ({ name, kind: "envelope", partitions: PARTITIONS })

/** All changes, each of which has to be written. */
const written = (store: Transport.Store, partition: number, changes: ReadonlyArray<Transport.StoreChange>) =>
  Effect.flatMap(store.write(partition, changes, { timeout }), Either.all)

const entriesOf = (store: Transport.Store, partition: number, options?: Parameters<Transport.Store["read"]>[1]) =>
  Effect.map(Stream.runCollect(store.read(partition, options)), Chunk.toReadonlyArray)

/** What a reader knows who applies the changes in order. */
const applied = (
  entries: ReadonlyArray<Transport.StoreEntry>,
  map = new Map<string, string>()
): ReadonlyMap<string, string> => {
  for (const { key, value } of entries) {
    if (value === null) map.delete(key)
    else map.set(key, new TextDecoder().decode(value))
  }
  return map
}

const mapOf = (store: Transport.Store, partition: number) =>
  Effect.map(entriesOf(store, partition), (entries) => Object.fromEntries(applied(entries)))

const revisionsOf = (entries: ReadonlyArray<Transport.StoreEntry>) => entries.map(({ revision }) => revision)

const expectAscending = (numbers: ReadonlyArray<number>) =>
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b))

/** A key that can't be written, of each kind. */
const wrongKeys = ["", "k".repeat(1_025), "ä".repeat(513)]

/**
 * @since 0.1.0
 * @category rules
 */
export const storeLaws = (subject: Subject): void => {
  /** The test begins with a transport of its own, and may connect others, which are processes of their own to the broker. */
  const law = (
    name: string,
    program: (
      open: Open,
      connect: Effect.Effect<Open, unknown, Scope.Scope>
    ) => Effect.Effect<void, unknown, Scope.Scope>,
    seconds = 60
  ): void => {
    it(`the store: ${name}`, (context) => {
      const service = Effect.map(
        Layer.build(Layer.fresh(subject.layer)),
        (built) => Effect.runSync(Effect.provide(Transport.Transport, built))
      )
      return Effect.runPromise(quietly(Effect.scoped(Effect.gen(function*() {
        const { store } = yield* service
        if (store === undefined) return context.skip()
        yield* program(store, Effect.map(service, (other) => other.store!))
      }))))
    }, seconds * 1_000)
  }

  law(
    "what was written is read by whoever opens it next, the newest of each key",
    (open, connect) =>
      Effect.gen(function*() {
        const request = { topic: spec(), group: "owners", name: "letters" }
        const store = yield* open(request)
        expect(yield* mapOf(store, 0)).toEqual({})
        const first = yield* written(store, 0, [change("a", "1"), change("b", "1"), change("a", "2"), change("c", "")])
        const second = yield* written(store, 0, [change("b", null), change("d", "1"), change("none", null)])
        expectAscending([...first, ...second])
        const expected = { a: "2", c: "", d: "1" }
        expect(yield* mapOf(store, 0)).toEqual(expected)
        const next = yield* (yield* connect)(request)
        expect(yield* mapOf(next, 0)).toEqual(expected)
        expectAscending(revisionsOf(yield* entriesOf(next, 0)))
        // What is written by one is read by the other, which was open before.
        const [last] = yield* written(next, 0, [change("a", null)])
        expect(last).toBeGreaterThan(second.at(-1)!)
        expect(yield* mapOf(store, 0)).toEqual({ c: "", d: "1" })
      })
  )

  law("partitions, groups, names and topics have stores of their own", (open) =>
    Effect.gen(function*() {
      const topic = spec()
      const one = { topic, group: "g", name: "n" }
      const stores = yield* Effect.forEach([
        one,
        { ...one, group: "g-n" },
        { ...one, name: "g.n" },
        { ...one, group: "G" },
        { ...one, group: "ü/g", name: "n n" },
        { ...one, topic: spec() }
      ], open)
      for (const [i, store] of stores.entries()) {
        yield* written(store, 0, [change("key", `${i}`)])
        yield* written(store, 1, [change("key", `${i} beside`)])
      }
      for (const [i, store] of stores.entries()) {
        expect([yield* mapOf(store, 0), yield* mapOf(store, 1)]).toEqual([{ key: `${i}` }, { key: `${i} beside` }])
      }
    }))

  law("reading goes on behind a revision", (open) =>
    Effect.gen(function*() {
      const store = yield* open({ topic: spec(), group: "g", name: "n" })
      const [, b] = yield* written(store, 0, [change("a", "1"), change("b", "1")])
      const known = new Map(applied(yield* entriesOf(store, 0)))
      expect(yield* entriesOf(store, 0, { after: b })).toEqual([])
      const later = yield* written(store, 0, [change("b", null), change("a", "2"), change("c", "1")])
      const news = yield* entriesOf(store, 0, { after: b })
      expectAscending(revisionsOf(news))
      expect(revisionsOf(news)).toEqual(expect.arrayContaining(later.slice(1)))
      expect(Object.fromEntries(applied(news, known))).toEqual({ a: "2", c: "1" })
      expect(yield* entriesOf(store, 0, { after: later.at(-1) })).toEqual([])
      // These are there, and others may be.
      const some = yield* entriesOf(store, 0, { keys: ["c", "b", "none"] })
      expect(some).toContainEqual({ key: "c", value: bytes("1"), revision: later[2] })
      expectAscending(revisionsOf(some))
    }))

  law("keys are any text, and values any bytes", (open) =>
    Effect.gen(function*() {
      const store = yield* open({ topic: spec(), group: "g", name: "n" })
      const keys = [
        " ",
        "a.b",
        "a_b",
        "a*b",
        "a>b",
        "A.b",
        "a/b/",
        "..",
        "\u0000",
        "\r\n",
        "ä",
        "a\u0308",
        "😀",
        "__proto__",
        "=",
        "%20",
        "k".repeat(1_024),
        "ü".repeat(512)
      ]
      yield* written(store, 0, keys.map((key, i) => change(key, `${i}`)))
      const entries = yield* entriesOf(store, 0)
      expect(entries.map(({ key }) => key)).toEqual(keys)
      expect(entries.map(({ value }) => new TextDecoder().decode(value!))).toEqual(keys.map((_, i) => `${i}`))
      const all = Uint8Array.from({ length: 256 }, (_, i) => i)
      const large = new Uint8Array(200_000).fill(7)
      yield* written(store, 0, [{ key: "all", value: all }, { key: "large", value: large }])
      const found = new Map((yield* entriesOf(store, 0)).map(({ key, value }) => [key, value]))
      expect(Buffer.from(found.get("all")!).equals(all)).toBe(true)
      expect(Buffer.from(found.get("large")!).equals(large)).toBe(true)
    }))

  law("what can't be written is refused, and nothing behind it is written", (open) =>
    Effect.gen(function*() {
      const store = yield* open({ topic: spec(), group: "g", name: "n" })
      const reasons = wrongKeys.map((key) => [change(key, "x"), "InvalidMessage"] as const)
      const tooLarge = { key: "large", value: new Uint8Array(80 * 1024 * 1024) }
      for (const [i, [wrong, tag]] of [...reasons, [tooLarge, "MessageTooLarge"] as const].entries()) {
        const results = yield* store.write(0, [change(`${i}`, "1"), wrong, change("behind", "1")], { timeout })
        expect(results).toHaveLength(3)
        expect(Either.isRight(results[0]!)).toBe(true)
        expect(results[1]).toMatchObject({ _tag: "Left", left: { _tag: tag } })
        const behind = Either.getOrThrow(Either.flip(results[2]!))
        expect(behind._tag === "PublishFailed" ? behind.outcome : "not-written").toBe("not-written")
      }
      expect(yield* mapOf(store, 0)).toEqual({ 0: "1", 1: "1", 2: "1", 3: "1" })
      const none = yield* store.write(PARTITIONS + 5, [change("a", "1")], { timeout })
      expect(none).toMatchObject([{ _tag: "Left" }])
      expect(yield* store.write(0, [], { timeout })).toEqual([])
    }))

  law("calls for one partition are written in the order in which they began", (open) =>
    Effect.gen(function*() {
      const store = yield* open({ topic: spec(), group: "g", name: "n" })
      const calls = yield* Effect.forEach(
        Array.from({ length: 60 }, (_, i) => i),
        (i) =>
          Effect.zipLeft(
            Effect.fork(written(store, 0, [change("last", `${i}`), change(`${i % 7}`, `${i}`)])),
            Effect.yieldNow()
          )
      )
      const revisions = yield* Effect.forEach(calls, Fiber.join)
      expectAscending(revisions.flat())
      expect(yield* mapOf(store, 0)).toMatchObject({ last: "59", 0: "56", 6: "55" })
    }))

  law(
    "an owner that stops in the middle of a write leaves a beginning of it",
    (open, connect) =>
      Effect.gen(function*() {
        const request = { topic: spec(), group: "g", name: "n" }
        const changes = Array.from({ length: 3_000 }, (_, i) => change(`${i}`, "x".repeat(500)))
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* (yield* connect)(request)
          yield* written(store, 0, [change("before", "1")])
          const writing = yield* Effect.fork(store.write(0, changes, { timeout }))
          yield* Effect.sleep("3 millis")
          yield* Fiber.interrupt(writing)
        }))
        const entries = yield* entriesOf(yield* open(request), 0)
        expect(entries.map(({ key }) => key)).toEqual(
          ["before", ...changes.map(({ key }) => key)].slice(0, entries.length)
        )
        expect(entries.length).toBeGreaterThan(0)
      })
  )

  const step = FastCheck.record({
    partition: FastCheck.nat(PARTITIONS - 1),
    changes: FastCheck.array(
      FastCheck.tuple(
        FastCheck.constantFrom("a", "b", "a.b", "A", "ä", "c*", "order:1"),
        FastCheck.option(FastCheck.string({ maxLength: 8 }))
      ),
      { maxLength: 6 }
    ),
    isNewOwner: FastCheck.boolean()
  })
  law("any writes by any owners are the map that a model has", (open, connect) =>
    Effect.gen(function*() {
      const others = [open, yield* connect]
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(FastCheck.array(step, { minLength: 1, maxLength: 8 }), (steps) =>
            Effect.runPromise(Effect.scoped(Effect.gen(function*() {
              const request = { topic: spec(), group: "g", name: "n" }
              let store = yield* open(request)
              const models = Array.from({ length: PARTITIONS }, () => new Map<string, string>())
              const readers = Array.from(
                { length: PARTITIONS },
                () => ({ map: new Map<string, string>(), after: undefined as number | undefined })
              )
              for (const [i, { changes, isNewOwner, partition }] of steps.entries()) {
                if (isNewOwner) store = yield* others[i % 2]!(request)
                const revisions = yield* written(store, partition, changes.map(([key, value]) => change(key, value)))
                const model = models[partition]!
                for (const [key, value] of changes) {
                  if (value === null) model.delete(key)
                  else model.set(key, value)
                }
                // One reader that goes on, and one that begins anew.
                const reader = readers[partition]!
                const news = yield* entriesOf(store, partition, { after: reader.after })
                applied(news, reader.map)
                reader.after = news.at(-1)?.revision ?? reader.after
                // A removal is there or not, as long as the map is right.
                if (typeof changes.at(-1)?.[1] === "string") expect(reader.after).toBe(revisions.at(-1))
                const expected = Object.fromEntries(model)
                expect(Object.fromEntries(reader.map)).toEqual(expected)
                expect(yield* mapOf(store, partition)).toEqual(expected)
              }
            })))),
          { numRuns: isLong ? 50 : 6 }
        )
      )
    }), isLong ? 600 : 120)
}
