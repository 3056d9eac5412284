import * as Servers from "@effect-eventbus/brokers/Nats"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Logger, type Scope, Stream, TestClock } from "effect"
import { headers, type Msg, type NatsConnection } from "nats"
import { StoreMarks } from "../src/internal/StoreMarks.js"
import { Turns } from "../src/internal/Turns.js"
import { NatsRequestFailed } from "../src/NatsErrors.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"
import { change, errorOf, mapOf, read, requestOf, streamOf, text, timeout, write } from "./storing.js"

/** What becomes of a request, by its number among those of its kind: `served`, `lost`, `written` without an answer, or this answer. */
type Script = (request: { readonly endpoint: string; readonly count: number }, nc: NatsConnection) => Answer
type Answer = "served" | "lost" | "written" | {
  readonly body?: object
  readonly status?: number
  readonly text?: string
}

let serial = 0

/** A domain whose requests go to the server over a client of the test, which answers some of them itself. */
const scripted = (
  servers: ReadonlyArray<string>,
  script: Script,
  edit: (endpoint: string, answer: Record<string, unknown>) => object = (_, answer) => answer
): Effect.Effect<{ readonly servers: ReadonlyArray<string>; readonly domain: string }, never, Scope.Scope> =>
  Effect.map(T.client(servers), (nc) => {
    const domain = `scripted${serial++}`
    const prefix = `$JS.${domain}.API.`
    const counts = new Map<string, number>()
    const pass = async ({ data, headers, reply, subject }: Msg, isAnswered: boolean) => {
      const endpoint = subject.slice(prefix.length)
      const to = endpoint.startsWith("$KV.") ? endpoint : `$JS.API.${endpoint}`
      const options = headers === undefined ? {} : { headers }
      if (endpoint.startsWith("CONSUMER.MSG.NEXT.")) return nc.publish(to, data, { ...options, reply: reply! })
      const answer = await nc.request(to, data, { timeout: 5_000, ...options })
      if (isAnswered) nc.publish(reply!, JSON.stringify(edit(endpoint, answer.json())))
    }
    nc.subscribe(`${prefix}>`, {
      callback: (_, message) => {
        const endpoint = message.subject.slice(prefix.length)
        const kind = endpoint.startsWith("$KV.") ? "write" : endpoint.split(".").slice(0, -1).join(".")
        const count = counts.get(kind) ?? 0
        counts.set(kind, count + 1)
        const answer = script({ endpoint, count }, nc)
        if (answer === "lost") return
        if (answer === "served" || answer === "written") return void pass(message, answer === "served")
        nc.publish(
          message.reply!,
          answer.text ?? (answer.body === undefined ? "" : JSON.stringify(answer.body)),
          answer.status === undefined ? {} : { headers: headers(answer.status, "No") }
        )
      }
    })
    return { servers, domain }
  })

const isWrite = (endpoint: string) => endpoint.startsWith("$KV.") && !endpoint.includes("=probe")

const error = (code: number, err_code: number, description: string) => ({
  body: { error: { code, err_code, description } }
})

describe.each(T.versions)("The store in bad times, on %s", (version) => {
  const servers = sharedServer(version)

  const open = (script: Script, edit?: Parameters<typeof scripted>[2], request = requestOf()) =>
    Effect.gen(function*() {
      const { domain } = yield* scripted(servers(), script, edit)
      const service = yield* T.transport(servers(), { domain, ackTimeout: "300 millis" })
      return { store: yield* service.store!(request), request }
    })

  /** The answers to writes, one after the other; what comes behind them is served. */
  const answering = (...answers: ReadonlyArray<Answer>) => {
    const left = [...answers]
    const isOpen = { now: false }
    const script: Script = ({ endpoint }) => isOpen.now && isWrite(endpoint) ? left.shift() ?? "served" : "served"
    return Effect.map(open(script), ({ store }) => {
      isOpen.now = true
      return store
    })
  }

  it("what passes is tried again: no leader, nobody there, no answer, an answer that got lost", () =>
    T.run(Effect.gen(function*() {
      const passing: ReadonlyArray<Answer> = [
        { status: 503 },
        error(503, 10008, "JetStream system temporarily unavailable"),
        "lost",
        error(503, 10008, "JetStream system temporarily unavailable"),
        { status: 503 }
      ]
      const store = yield* answering(...passing, "written", "served", "lost", "written", { status: 503 })
      const [one] = yield* write(store, 0, change("a", "1"))
      const [two] = yield* write(store, 0, change("a", "2"))
      const entries = yield* read(store, 0)
      assert.deepStrictEqual(entries.map(text), ["a=2"])
      assert.strictEqual(entries[0]!.revision, two)
      assert.isAbove(two!, one!)
    })))

  it("what does not pass is an error at once, whose outcome says whether it may have been written", () =>
    T.run(Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [ReadonlyArray<Answer>, object]> = [
        [[error(503, 10023, "insufficient resources")], { reason: "StorageFull", outcome: "not-written" }],
        [[error(400, 10077, "maximum bytes exceeded")], { reason: "StorageFull", outcome: "not-written" }],
        [["lost", error(503, 10023, "insufficient resources")], { reason: "StorageFull", outcome: "unknown" }],
        [[error(400, 10054, "message size exceeds maximum allowed")], { _tag: "MessageTooLarge" }],
        [[error(400, 12345, "something new")], { reason: "Rejected", outcome: "not-written" }],
        [["written", error(400, 12345, "something new")], { reason: "Rejected", outcome: "unknown" }],
        [[{ text: "no JSON" }], { reason: "Rejected", outcome: "unknown" }],
        [[{ body: { stream: "KV" } }], { reason: "Rejected", outcome: "unknown" }]
      ]
      for (const [answers, expected] of cases) {
        const store = yield* answering(...answers)
        const [failed, behind] = yield* store.write(0, [change("a", "1"), change("b", "1")], { timeout })
        assert.deepInclude(errorOf(failed!), expected as never)
        assert.deepInclude(errorOf(behind!), { _tag: "PublishFailed", outcome: "not-written" })
        // The next one begins anew, whatever became of this one.
        yield* write(store, 0, change("a", "2"))
        assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "2" })
      }
    })))

  it("it ends within its time, and says what nobody answers for", () =>
    T.run(Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [Answer, object]> = [
        [{ status: 503 }, { reason: "Unreachable", outcome: "not-written" }],
        ["lost", { reason: "Timeout", outcome: "unknown" }],
        [error(503, 10008, "temporarily unavailable"), { reason: "Timeout", outcome: "not-written" }],
        // Against everything that is known of the key.
        [error(400, 10071, "wrong last sequence: 5"), { reason: "Timeout", outcome: "not-written" }]
      ]
      for (const [answer, expected] of cases) {
        const store = yield* answering(...Array.from({ length: 1_000 }, () => answer))
        const start = performance.now()
        const [failed] = yield* store.write(0, [change("a", "1")], { timeout: Duration.millis(600) })
        assert.isBelow(performance.now() - start, 5_000)
        assert.deepInclude(errorOf(failed!), expected as never)
      }
    })))

  it("a leader that refuses what it should take, of a key that is not there, is asked again with pauses", () =>
    T.run(Effect.gen(function*() {
      let writes = 0
      const { store } = yield* open(({ endpoint }) => {
        if (!isWrite(endpoint)) return "served"
        writes++
        return error(400, 10071, "wrong last sequence: 5")
      })
      writes = 0
      yield* store.write(0, [change("a", "1")], { timeout: Duration.millis(600) })
      // After 50, 150 and 350 ms.
      assert.isAtLeast(writes, 2)
      assert.isAtMost(writes, 5)
    })))

  it("where a key can't be looked at it is tried again", () =>
    T.run(Effect.gen(function*() {
      const { request, store } = yield* open(({ count, endpoint }) =>
        endpoint.startsWith("STREAM.MSG.GET") && count < 2 ? error(503, 10008, "unavailable") : "served"
      )
      const other = yield* Effect.flatMap(T.transport(servers()), (service) => service.store!(request))
      yield* write(other, 0, change("a", "1"))
      yield* write(store, 0, change("a", "2"))
      assert.deepStrictEqual(mapOf(yield* read(other, 0)), { a: "2" })
    })))

  it("a server that lags behind the leader, and a leader that was just elected, are not believed", () =>
    T.run(Effect.gen(function*() {
      const replicas = (endpoint: string, answer: Record<string, unknown>) =>
        endpoint.startsWith("STREAM.INFO.KV_eventbus_")
          ? { ...answer, config: { ...answer["config"] as object, num_replicas: 3 } }
          : answer
      let pulls = 0
      let looks = 0
      const { request, store } = yield* open(({ endpoint }) => {
        if (endpoint.startsWith("CONSUMER.MSG.NEXT.") && pulls++ < 3) return { status: 404 }
        const isLook = endpoint.startsWith("STREAM.MSG.GET.KV_eventbus_")
        return isLook && looks++ < 2 ? error(404, 10037, "no message found") : "served"
      }, replicas)
      const other = yield* Effect.flatMap(T.transport(servers()), (service) => service.store!(request))
      yield* write(other, 0, change("a", "1"), change("b", "1"))
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "1", b: "1" })
      assert.isAtLeast(pulls, 3)
      // A mark takes one place for each partition, however often it is read.
      yield* read(store, 0)
      yield* read(store, 0, { keys: ["a"] })
      const jsm = yield* Effect.flatMap(T.client(servers()), (nc) => Effect.promise(() => nc.jetstreamManager()))
      const { state } = yield* Effect.promise(() => jsm.streams.info(streamOf(request)))
      assert.strictEqual(state.messages, 3)
    })))

  it("keys are asked for again where another one has become the leader meanwhile", () =>
    T.run(Effect.gen(function*() {
      let infos = 0
      const { store } = yield* open(() => "served", (endpoint, answer) => {
        if (!endpoint.startsWith("STREAM.INFO.KV_eventbus_")) return answer
        const leader = infos++ < 3 ? `n${infos}` : "n9"
        return { ...answer, cluster: { leader }, config: { ...answer["config"] as object, num_replicas: 3 } }
      })
      yield* write(store, 0, change("a", "1"))
      assert.deepStrictEqual((yield* read(store, 0, { keys: ["a", "b"] })).map(text), ["a=1"])
      assert.isAtLeast(infos, 5)
    })))

  it("what was removed is purged when it is old, and nothing that was written since", () =>
    T.run(Effect.gen(function*() {
      const request = requestOf()
      const service = yield* T.transport(servers())
      const store = yield* service.store!(request)
      yield* write(store, 0, change("a", "1"), change("b", "1"))
      const [a, b] = yield* write(store, 0, change("a", null), change("b", null))
      yield* write(store, 0, change("b", "2"))
      const jsm = yield* Effect.flatMap(T.client(servers()), (nc) => Effect.promise(() => nc.jetstreamManager()))
      const purge = (name: string, revision: number) =>
        Effect.promise(() =>
          jsm.streams.purge(streamOf(request), {
            filter: `$KV.${streamOf(request).slice(3)}.${name}`,
            seq: revision + 1
          })
        )
      let now = 0
      const marks = new StoreMarks(() => now, (name, revision) => Effect.asVoid(purge(name, revision)))
      marks.removed("0.a", a!)
      marks.removed("0.b", b!)
      now = 14 * 60_000
      yield* marks.sweep
      assert.strictEqual(marks.size, 2)
      // Whoever reads it later knows how old it is.
      marks.removed("0.a", a!, 5 * 60_000)
      now = 15 * 60_000
      yield* marks.sweep
      assert.strictEqual(marks.size, 0)
      assert.deepStrictEqual((yield* read(store, 0)).map(text), ["b=2"])
      // The key that is gone can be written again, although its revision was known.
      yield* write(store, 0, change("a", "3"))
      assert.deepStrictEqual(mapOf(yield* read(store, 0)), { a: "3", b: "2" })
    })))
})

describe("What was removed", () => {
  it.effect("is looked for every 30 seconds; a purge that fails is tried again, and said", () =>
    Effect.gen(function*() {
      let now = 0
      const purged: Array<string> = []
      let isAway = true
      const marks = new StoreMarks(() => now, (name) =>
        isAway
          ? new NatsRequestFailed({ subject: name, reason: "Timeout" })
          : Effect.sync(() => void purged.push(name)))
      marks.removed("0.a", 1)
      marks.removed("0.b", 2)
      marks.written("0.b")
      yield* Effect.fork(Effect.provide(marks.sweeping, Logger.remove(Logger.defaultLogger)))
      now = 20 * 60_000
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual(marks.size, 1)
      isAway = false
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(purged, ["0.a"])
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(purged, ["0.a"])
    }))
})

describe("Turns", () => {
  it("who gives up waiting passes its turn on, and nobody overtakes", () =>
    T.run(Effect.gen(function*() {
      const turns = new Turns<number>()
      const log: Array<string> = []
      const take = (name: string, millis: number, work: Effect.Effect<void>) =>
        Effect.fork(
          turns.take(0, millis, Effect.zipRight(Effect.sync(() => log.push(name)), Effect.as(work, true))).pipe(
            Effect.tap((end) => Effect.sync(() => end === undefined && log.push(`not ${name}`)))
          )
        )
      const first = yield* take("first", 1_000, Effect.never)
      yield* T.waitUntil("it has begun", () => log.length === 1)
      const second = yield* take("second", 20, Effect.void)
      const third = yield* take("third", 5_000, Effect.void)
      const fourth = yield* take("fourth", 5_000, Effect.void)
      const fifth = yield* take("fifth", 5_000, Effect.void)
      yield* Fiber.join(second)
      assert.deepStrictEqual(log, ["first", "not second"])
      yield* Fiber.interrupt(third)
      yield* Fiber.interrupt(first)
      yield* Fiber.joinAll([fourth, fifth])
      assert.deepStrictEqual(log, ["first", "not second", "fourth", "fifth"])
      const sixth = yield* take("sixth", 0, Effect.void)
      yield* Fiber.join(sixth)
      assert.strictEqual(log.at(-1), "sixth")
    })))
})

describe.each(T.versions)("The store on three servers of %s", (version) => {
  it(
    "the leader is killed under load: what was confirmed is read by the next owner, in order",
    () =>
      T.run(Effect.gen(function*() {
        const cluster = yield* Servers.make({ version, nodes: 3, own: true })
        const request = requestOf()
        const service = yield* T.transport(cluster.servers, { replicas: 3, ackTimeout: "1 second" })
        const store = yield* service.store!(request)
        const next = yield* Effect.flatMap(
          T.transport(cluster.servers, { replicas: 3 }),
          (service) => service.store!(request)
        )
        let n = 0
        let confirmed = -1
        let isOver = false
        const writing = yield* Effect.suspend(() => {
          const key = n++
          return Effect.tap(
            store.write(0, [change("last", String(key)), change(`key-${key % 50}`, String(key))], {
              timeout: Duration.seconds(40)
            }),
            (results) => {
              assert.isTrue(results.every(Either.isRight), JSON.stringify(results))
              confirmed = key
            }
          )
        }).pipe(Effect.repeat({ until: () => isOver }), Effect.fork)
        /** What was confirmed when reading began is there. */
        const check = Effect.gen(function*() {
          const known = confirmed
          const map = mapOf(yield* read(next, 0))
          const some = mapOf(yield* read(next, 0, { keys: ["last"] }))
          assert.isAtLeast(Number(map["last"]), known)
          assert.isAtLeast(Number(some["last"]), known)
        })
        yield* T.waitUntil("it writes", () => confirmed > 100)
        yield* check
        const nc = yield* T.client(cluster.servers)
        const jsm = yield* Effect.promise(() => nc.jetstreamManager())
        const { cluster: info } = yield* Effect.promise(() => jsm.streams.info(streamOf(request)))
        // Its name ends with its number.
        yield* cluster.nodes.find(({ id }) => info!.leader!.endsWith(`-${id}`))!.kill
        const before = confirmed
        yield* T.waitUntil("it writes again", () => confirmed > before + 100)
        yield* Effect.repeatN(check, 5)
        isOver = true
        yield* Fiber.join(writing)
        yield* check
        yield* Stream.runDrain(next.read(0))
      })),
    120_000
  )
})
