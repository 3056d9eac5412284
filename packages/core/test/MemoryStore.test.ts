import { MemoryBroker, MemoryTransport, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Layer, Stream } from "effect"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | null) => value && new TextDecoder().decode(value)

const topic = { name: "orders", kind: "envelope", partitions: 2 } as const
const timeout = { timeout: Duration.seconds(1) }

const open = (group = "g", name = "parking") =>
  Effect.flatMap(Transport.Transport, ({ store }) => store!({ topic, group, name }))

const read = (store: Transport.Store, partition: number, options?: Parameters<Transport.Store["read"]>[1]) =>
  Effect.map(
    Stream.runCollect(store.read(partition, options)),
    (all) => Chunk.toReadonlyArray(all).map(({ key, revision, value }) => [key, revision, text(value)] as const)
  )

const here = <A, E>(effect: Effect.Effect<A, E, Transport.Transport | import("effect").Scope.Scope>) =>
  Effect.provide(effect, MemoryTransport.layerBroker)

const broker = Layer.fresh(MemoryBroker.layer({ maxMessages: 300, maxMessageBytes: 10 }))

describe("the store in memory", () => {
  it.scoped("outlives its transport, and belongs to a group, a name and a partition", () =>
    Effect.gen(function*() {
      yield* here(Effect.flatMap(open(), (store) => store.write(1, [{ key: "a", value: bytes("1") }], timeout)))
      expect(yield* here(Effect.flatMap(open(), (store) => read(store, 1)))).toEqual([["a", 1, "1"]])
      expect(yield* here(Effect.flatMap(open(), (store) => read(store, 0)))).toEqual([])
      expect(yield* here(Effect.flatMap(open("other"), (store) => read(store, 1)))).toEqual([])
      expect(yield* here(Effect.flatMap(open("g", "other"), (store) => read(store, 1)))).toEqual([])
    }).pipe(Effect.provide(broker)))

  it.scoped("answers what it knows of a partition, in the order of the changes, above a revision and for some keys", () =>
    here(Effect.gen(function*() {
      const store = yield* open()
      const buffer = bytes("1")
      const changes = [{ key: "a", value: buffer }, { key: "b", value: bytes("2") }, { key: "a", value: bytes("3") }]
      expect(yield* store.write(0, changes, timeout)).toEqual([Either.right(1), Either.right(2), Either.right(3)])
      buffer.fill(0)
      expect(yield* read(store, 0)).toEqual([["a", 1, "1"], ["b", 2, "2"], ["a", 3, "3"]])
      expect(yield* read(store, 0, { after: 2 })).toEqual([["a", 3, "3"]])
      expect(yield* read(store, 0, { keys: ["a", "c"] })).toEqual([["a", 3, "3"]])
      expect(yield* store.write(0, [{ key: "b", value: null }], timeout)).toEqual([Either.right(4)])
      expect(yield* read(store, 0, { after: 3 })).toEqual([["b", 4, null]])
      expect(yield* read(store, 0, { keys: ["b"] })).toEqual([])
    })).pipe(Effect.provide(broker)))

  it.scoped("keeps no more than the newest of each key for long, and a reader sees what was there when it began", () =>
    here(Effect.gen(function*() {
      const store = yield* open()
      yield* store.write(0, Array.from({ length: 290 }, (_, i) => ({ key: `k${i}`, value: bytes("x") })), timeout)
      const seen: Array<string> = []
      yield* Stream.runForEachChunk(store.read(0), (chunk) => {
        seen.push(...Chunk.toReadonlyArray(chunk).map(({ key }) => key))
        return store.write(0, Array.from({ length: 290 }, (_, i) => ({ key: `k${i}`, value: null })), timeout)
      })
      expect(seen).toEqual(Array.from({ length: 290 }, (_, i) => `k${i}`))
      for (let i = 0; i < 1_000; i++) yield* store.write(0, [{ key: "one", value: bytes(`${i}`) }], timeout)
      expect((yield* read(store, 0)).length).toBeLessThan(70)
      expect((yield* read(store, 0)).at(-1)?.[2]).toBe("999")
    })).pipe(Effect.provide(broker)))

  it.scoped("refuses what it can't keep, and writes nothing behind it", () =>
    here(Effect.gen(function*() {
      const store = yield* open()
      const write = (...keys: ReadonlyArray<readonly [string, string]>) =>
        Effect.map(
          store.write(0, keys.map(([key, value]) => ({ key, value: bytes(value) })), timeout),
          (results) => results.map(Either.match({ onLeft: ({ _tag }) => _tag, onRight: (revision) => revision }))
        )
      expect(yield* write(["a", "1"], ["b", "more than ten"], ["c", "1"])).toEqual([
        1,
        "MessageTooLarge",
        "MessageTooLarge"
      ])
      expect(yield* write(["", "1"])).toEqual(["InvalidMessage"])
      expect(yield* write(["ü".repeat(513), "1"])).toEqual(["InvalidMessage"])
      expect((yield* store.write(7, [{ key: "a", value: null }], timeout)).map(Either.isLeft)).toEqual([true])
      yield* write(...Array.from({ length: 299 }, (_, i) => [`k${i}`, "x"] as const))
      expect(yield* write(["one more", "1"])).toEqual(["PublishFailed"])
      // What is there can be changed and removed.
      expect(yield* write(["a", "2"])).toEqual([301])
      yield* store.write(0, [{ key: "k0", value: null }], timeout)
      expect(yield* write(["one more", "1"])).toEqual([303])
    })).pipe(Effect.provide(broker)))
})
