import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type { StoreEntry } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Redacted, Stream } from "effect"
import type { StreamConfig } from "nats"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"
import { bucketOf, change, errorOf, mapOf, read, requestOf, streamOf, text, timeout, write } from "./storing.js"
import { wire } from "./wire.js"

describe.each(T.versions)("The store on %s", (version) => {
  const servers = sharedServer(version)

  const manager = Effect.flatMap(
    Effect.suspend(() => T.client(servers())),
    (nc) => Effect.promise(() => nc.jetstreamManager())
  )

  const open = (request = requestOf()) => Effect.flatMap(T.transport(servers()), (service) => service.store!(request))

  it("is a map for each partition, in the order of its revisions, also for the next owner", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const store = yield* open(request)
      assert.deepStrictEqual(yield* read(store, 0), [])
      const [a, b, c] = yield* write(store, 0, change("a", "1"), change("b", ""), change("a", "2"))
      assert.isTrue(a! < b! && b! < c!)
      yield* write(store, 1, change("a", "other"))
      const next = yield* open(request)
      assert.deepStrictEqual((yield* read(next, 0)).map(text), ["b=", "a=2"])
      assert.deepStrictEqual((yield* read(next, 1)).map(text), ["a=other"])
      const [d] = yield* write(next, 0, change("b", null))
      assert.deepStrictEqual(yield* read(store, 0, { after: c! }), [{ key: "b", value: null, revision: d! }])
      assert.deepStrictEqual(yield* read(store, 0, { after: d! }), [])
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "2" })
      // A key that was removed comes again.
      yield* write(store, 0, change("b", "3"))
      assert.deepStrictEqual(mapOf(yield* read(next, 0)), { a: "2", b: "3" })
      // Another name, and another group, is another store.
      const other = yield* open({ ...request, name: "other" })
      assert.deepStrictEqual(yield* read(other, 0), [])
      assert.deepStrictEqual(yield* read(yield* open({ ...request, group: "other" }), 0), [])
    })))

  it("takes any key of 1 to 1,024 bytes, and no other", () =>
    T.run(Effect.gen(function*() {
      const store = yield* open()
      const keys = [
        " ",
        "*",
        ">",
        ".",
        "a.b",
        "a..b",
        "=r",
        "=s",
        "\u0000\r\n",
        "ключ",
        "😀",
        "\uFEFFa",
        "k".repeat(200),
        "k".repeat(201),
        "x".repeat(1_024),
        "é".repeat(512),
        "é".repeat(511) + "à"
      ]
      yield* write(store, 0, ...keys.map((key, i) => change(key, String(i))))
      const expected = Object.fromEntries(keys.map((key, i) => [key, String(i)]))
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), expected)
      assert.deepStrictEqual(mapOf(yield* read(store, 0, { keys })), expected)
      for (const key of ["", "x".repeat(1_025), "é".repeat(513), "\uD800"]) {
        const [first, second] = yield* store.write(0, [change(key, "1"), change("a", "1")], { timeout })
        assert.strictEqual(errorOf(first!)._tag, "InvalidMessage")
        assert.deepInclude(errorOf(second!), { _tag: "PublishFailed", outcome: "not-written" })
      }
      assert.deepStrictEqual(yield* read(store, 0, { keys: ["a", ""] }), [])
      for (const partition of [3, -1, 0.5]) {
        const [result] = yield* store.write(partition, [change("a", "1")], { timeout })
        assert.include(errorOf(result!).message, "there is no partition")
        assert.include((yield* Effect.flip(Stream.runDrain(store.read(partition)))).message, "there is no partition")
      }
    })))

  it("the first change that fails is the last that is tried", () =>
    T.run(Effect.gen(function*() {
      const store = yield* open()
      const results = yield* store.write(
        0,
        [change("a", "1"), { key: "b", value: new Uint8Array(2_000_000) }, change("c", "1")],
        { timeout }
      )
      assert.isTrue(Either.isRight(results[0]!))
      assert.strictEqual(errorOf(results[1]!)._tag, "MessageTooLarge")
      assert.deepInclude(errorOf(results[2]!), { _tag: "PublishFailed", outcome: "not-written" })
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "1" })
    })))

  it("several calls for one partition are written in the order in which they began", () =>
    T.run(Effect.gen(function*() {
      const store = yield* open()
      const calls = yield* Effect.forEach(
        T.range(0, 50),
        (n) => Effect.fork(write(store, 0, change("last", String(n)), change(String(n), "")))
      )
      // One that is given up lets the others pass.
      yield* Fiber.interrupt(calls[20]!)
      const all = yield* Fiber.joinAll(calls.filter((_, n) => n !== 20))
      const revisions = all.flat()
      T.assertNumbers(revisions, T.ascending(revisions))
      assert.strictEqual(mapOf(yield* read(store, 0))["last"], "49")
    })))

  it("a key that is written again while all is read is not missed", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const store = yield* open(request)
      const nc = yield* T.client(servers())
      const js = nc.jetstream()
      const put = (n: number) => js.publish(`$KV.${bucketOf(request)}.0.key-${n}`, "1")
      yield* Effect.promise(() => Promise.all(T.range(0, 3_000).map(put)))
      const entries: Array<StoreEntry> = []
      yield* Stream.runForEach(Stream.rechunk(store.read(0), 1), (entry) => {
        entries.push(entry)
        return entries.length === 10 ? write(store, 0, change("key-2900", "2"), change("key-2901", null)) : Effect.void
      })
      const map = mapOf(entries)
      assert.strictEqual(map["key-2900"], "2")
      assert.notProperty(map, "key-2901")
      assert.strictEqual(Object.keys(map).length, 2_999)
    })))

  it("ends with its scope, also where it was opened by somebody who can't be interrupted", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers())
      const opened = yield* T.scoped(Effect.uninterruptible(service.store!(requestOf())))
      yield* write(opened.value, 0, change("a", null))
      const start = performance.now()
      yield* opened.close
      assert.isBelow(performance.now() - start, 5_000)
      const [late] = yield* opened.value.write(0, [change("a", "1")], { timeout })
      assert.strictEqual(errorOf(late!)._tag, "BusClosed")
    })))

  it("has a bucket whose settings lose nothing", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const store = yield* open(request)
      yield* write(store, 0, change("a", "1"), change("a", null), change("b", "1"), change("b", null))
      const jsm = yield* manager
      const stream = streamOf(request)
      const before = yield* Effect.promise(() => jsm.streams.info(stream))
      assert.strictEqual(before.state.messages, 2)
      assert.deepInclude(before.config as object, {
        storage: "file",
        max_msgs_per_subject: 1,
        max_age: 0,
        discard: "new",
        deny_delete: true
      })
    })))

  it("a bucket that would lose something is refused, with what to do", () =>
    T.run(Effect.gen(function*() {
      const jsm = yield* manager
      const service = yield* T.transport(servers())
      const cases: ReadonlyArray<readonly [Partial<StreamConfig>, RegExp]> = [
        [{ max_age: 60e9 }, /max_age 60 s .*Set it to 0/],
        [{ max_bytes: 1_000_000, discard: "old" as never }, /max_bytes 1000000 with discard old/],
        [{ storage: "memory" as never }, /storage memory/],
        [{ max_msgs_per_subject: 5 }, /max_msgs_per_subject 5/],
        [{ no_ack: true }, /no_ack/],
        [{ retention: "interest" as never }, /retention interest/],
        [{ deny_purge: true }, /deny_purge/]
      ]
      for (const [config, expected] of cases) {
        const request = requestOf()
        const bucket = bucketOf(request)
        yield* Effect.promise(() =>
          jsm.streams.add({
            name: streamOf(request),
            subjects: [`$KV.${bucket}.>`],
            max_msgs_per_subject: 1,
            discard: "new" as never,
            ...config
          })
        )
        const failed = yield* Effect.flip(service.store!(request))
        assert.strictEqual(failed._tag, "InvalidConfiguration")
        assert.match(failed.message, expected)
      }
    })))

  it("a bucket that is deleted is an error of who writes and reads, and the next one begins empty", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const store = yield* open(request)
      yield* write(store, 0, change("a", "1"))
      const jsm = yield* manager
      const stream = streamOf(request)
      yield* Effect.promise(() => jsm.streams.delete(stream))
      const [result] = yield* store.write(0, [change("a", "2")], { timeout: Duration.millis(300) })
      assert.deepInclude(errorOf(result!), { reason: "Unreachable", outcome: "not-written" })
      assert.include(errorOf(result!).message, "deleted")
      const failed = yield* Effect.flip(Stream.runDrain(store.read(0)))
      assert.include(failed.message, "was deleted")
      assert.deepStrictEqual(yield* read(yield* open(request), 0), [])
      // What was known of the one before is not mixed with it.
      assert.include((yield* Effect.flip(Stream.runDrain(store.read(0)))).message, "made again")
    })))

  it("an acknowledgement that got lost: the change is written once, and has its revision", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const way = yield* wire(servers()[0]!)
      const service = yield* T.transport([way.address], { ackTimeout: "200 millis" })
      const store = yield* service.store!(request)
      yield* write(store, 0, change("a", "1"))
      let lost = 0
      way.toClient = (chunk) => lost++ === 0 ? Buffer.alloc(0) : chunk
      const [second] = yield* write(store, 0, change("a", "2"))
      way.toClient = (chunk) => chunk
      const entries = yield* read(store, 0)
      assert.deepStrictEqual(entries.map(text), ["a=2"])
      assert.strictEqual(entries[0]!.revision, second)
      assert.isAtLeast(lost, 2)
    })))

  it("an older value is not put over a newer one, neither by a retry nor by an attempt that comes late", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const way = yield* wire(servers()[0]!)
      const service = yield* T.transport([way.address], { ackTimeout: "200 millis" })
      const store = yield* service.store!(request)
      const other = yield* open(request)
      yield* write(store, 0, change("a", "1"))
      const held: Array<Buffer> = []
      way.toServer = (chunk) => {
        if (!chunk.includes("HPUB")) return chunk
        held.push(Buffer.from(chunk))
        return Buffer.alloc(0)
      }
      const old = yield* Effect.fork(store.write(0, [change("a", "old")], { timeout }))
      yield* T.waitUntil("it was sent", () => held.length > 0)
      yield* write(other, 0, change("a", "new"))
      way.toServer = (chunk) => Buffer.concat([...held.splice(0), chunk])
      const [result] = yield* Fiber.join(old)
      assert.deepInclude(errorOf(result!), { _tag: "PublishFailed", reason: "WrongLastSequence", outcome: "unknown" })
      assert.deepStrictEqual((yield* read(other, 0)).map(text), ["a=new"])
      // The same after it was given up, and also where the key was removed meanwhile.
      way.toServer = (chunk) => {
        if (!chunk.includes("HPUB")) return chunk
        held.push(Buffer.from(chunk))
        return Buffer.alloc(0)
      }
      const [unknown] = yield* store.write(0, [change("b", "old")], { timeout: Duration.millis(500) })
      assert.deepInclude(errorOf(unknown!), { reason: "Timeout", outcome: "unknown" })
      yield* write(other, 0, change("b", "new"), change("b", null))
      way.toServer = (chunk) => Buffer.concat([...held.splice(0), chunk])
      yield* write(store, 1, change("pushes", ""))
      assert.deepStrictEqual(mapOf(yield* read(other, 0)), { a: "new" })
    })))

  it("goes on over cut connections", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: Number(servers()[0]!.split(":")[1]) })
      const service = yield* T.transport([proxy.address], { ackTimeout: "300 millis" })
      const store = yield* service.store!(requestOf())
      const writing = yield* Effect.fork(write(store, 0, ...T.range(0, 600).map((n) => change(`key-${n}`, "1"))))
      const isBegun = () => Effect.runPromise(read(store, 0)).then(({ length }) => length > 20)
      yield* T.waitUntil("some are written", isBegun)
      yield* proxy.cut
      const revisions = yield* Fiber.join(writing)
      T.assertNumbers(revisions, T.ascending(revisions))
      const read1 = yield* Stream.runFoldEffect(store.read(0), 0, (n) =>
        Effect.as(n % 300 === 0 ? proxy.cut : Effect.void, n + 1))
      assert.strictEqual(read1, 600)
    })))
})

describe("The store", () => {
  it("names what a user may not do", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(
        "2.15",
        `jetstream: enabled
         authorization { users: [
           { user: all, password: p },
           { user: few, password: p, permissions: { publish: { deny: ["$KV.>"] } } },
           { user: some, password: p, permissions: { publish: { deny: ["$JS.API.STREAM.PURGE.>"] } } } ] }`
      )
      for (
        const [user, missing] of [["few", "$KV.eventbus_"], ["some", "$JS.API.STREAM.PURGE.KV_eventbus_"]] as const
      ) {
        const service = yield* T.transport(servers, { user, password: Redacted.make("p") })
        const failed = yield* Effect.flip(service.store!(requestOf()))
        assert.strictEqual(failed._tag, "SubscribeFailed")
        assert.include(failed.message, `no permission to publish to "${missing}`)
        assert.include(failed.message, "CONSUMER.MSG.NEXT")
      }
    })))

  it("without room a change fails at once, a removal too, and reading goes on", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const { servers } = yield* T.server("2.15")
      const jsm = yield* Effect.flatMap(T.client(servers), (nc) => Effect.promise(() => nc.jetstreamManager()))
      const bucket = bucketOf(request)
      yield* Effect.promise(() =>
        jsm.streams.add({
          name: streamOf(request),
          subjects: [`$KV.${bucket}.>`],
          max_msgs_per_subject: 1,
          max_msgs: 1,
          discard: "new" as never
        })
      )
      const store = yield* Effect.flatMap(T.transport(servers), (service) => service.store!(request))
      yield* write(store, 0, change("a", "1"))
      const [b, c] = yield* store.write(0, [change("b", "1"), change("a", "2")], { timeout })
      assert.deepInclude(errorOf(b!), { reason: "StorageFull", outcome: "not-written" })
      assert.deepInclude(errorOf(c!), { outcome: "not-written" })
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "1" })
    })))
})
