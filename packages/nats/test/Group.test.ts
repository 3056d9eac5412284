import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { OrderOracle } from "@effect-eventbus/testing"
import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Either, Fiber, Layer, Redacted } from "effect"
import { headers, type NatsConnection } from "nats"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { NatsTransport, Subject } from "../src/index.js"
import * as T from "./fixture.js"

const portOf = (address: string) => Number(address.split(":")[1])

type Handler = (aggregate: string, sequence: number, partition: number, epoch: number) => Effect.Effect<void>

/** An instance of the group in this process, with actors and all. */
const instance = (
  servers: ReadonlyArray<string>,
  topic: string,
  partitions: number,
  handler: Handler,
  leaseDuration: Duration.DurationInput = "2 seconds"
) =>
  T.scoped(Layer.build(
    Topic.plain(topic, { partitions }).toLayer(
      (body, { aggregateId, epoch, partition }) =>
        handler(aggregateId!, Number(new TextDecoder().decode(body)), partition, epoch),
      { semantics: "at-least-once", onExhausted: FailurePolicy.drop }
    ).pipe(
      Layer.provide(EventBus.layer),
      Layer.provide(NatsTransport.layer({ servers, leaseDuration, reconnectWait: "50 millis" })),
      Layer.provide(EventBusConfig.layer({ drainDeadline: "500 millis", closeDeadline: "1 second", group: "group" }))
    )
  ))

/** Who has each partition, by NATS's own client. */
const owners = (nc: NatsConnection, topic: string, partitions: number) =>
  Effect.promise(async () => {
    const kv = await nc.jetstream().views.kv("eventbus-leases")
    const entries = await Promise.all(
      T.range(0, partitions).map((p) => kv.get(`${Subject.toLease("group", topic)}.partition.${p}`))
    )
    return entries.map((entry) => (entry?.json() as { readonly owner?: string } | undefined)?.owner)
  })

const untilSpread = (nc: NatsConnection, topic: string, counts: ReadonlyArray<number>) =>
  T.waitUntil(`spread ${counts}`, async () => {
    const all = await Effect.runPromise(owners(nc, topic, counts.reduce((sum, count) => sum + count)))
    const found = new Map<string, number>()
    for (const owner of all) if (owner !== undefined) found.set(owner, (found.get(owner) ?? 0) + 1)
    return String(Array.from(found.values()).sort()) === String(counts.slice().sort())
  })

/** Publishes to 40 aggregates, one message after the other, until it is interrupted. */
const publishing = (
  servers: ReadonlyArray<string>,
  topic: string,
  partitions: number,
  onPublish: (a: string) => number
) =>
  Effect.gen(function*() {
    const service = yield* T.transport(servers)
    const round = Effect.suspend(() =>
      T.publish(
        service,
        { name: topic, kind: "plain", partitions },
        T.range(0, 40).map((i) => {
          const aggregate = `a-${i}`
          const sequence = onPublish(aggregate)
          return { ...T.message(sequence, aggregate), id: `${aggregate}/${sequence}` }
        })
      )
    )
    return yield* Effect.fork(Effect.forever(Effect.delay(Effect.uninterruptible(round), "20 millis")))
  })

describe.each(T.versions)("A partitioned group on %s", (version) => {
  it("spreads over 1, 2, 4 and 1 instances, in order, and handles nothing twice", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const { name } = T.topic("plain")
      const nc = yield* T.client(servers)
      const oracle = new OrderOracle.OrderOracle()
      const handler: Handler = (aggregate, sequence) =>
        Effect.sync(() => oracle.start(aggregate, sequence)).pipe(
          Effect.zipRight(Effect.sleep(Math.random() * 5)),
          Effect.onExit((exit) => Effect.sync(() => oracle.end(aggregate, sequence, exit._tag === "Success")))
        )
      const publisher = yield* publishing(servers, name, 8, (aggregate) => oracle.publish(aggregate))
      // Nobody's lease ends here, whatever else the machine is doing.
      const start = instance(servers, name, 8, handler, "15 seconds")
      const first = yield* start
      yield* untilSpread(nc, name, [8])
      const second = yield* start
      yield* untilSpread(nc, name, [4, 4])
      const others = [yield* start, yield* start]
      yield* untilSpread(nc, name, [2, 2, 2, 2])
      yield* Effect.forEach([first, second, others[0]!], ({ close }) => close, { concurrency: "unbounded" })
      yield* untilSpread(nc, name, [8])
      yield* Fiber.interrupt(publisher)
      yield* T.waitUntil("all is handled", () => oracle.lost === 0)
      assert.deepStrictEqual(oracle.violations, [])
      assert.strictEqual(oracle.duplicates, 0)
      assert.isAbove(oracle.published, 400)
    })), 90_000)

  it.runIf(version === "2.15")(
    "takes over from an instance that was killed, or stands still, which then takes part again",
    () =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const { name } = T.topic("plain")
        const nc = yield* T.client(servers)
        const file = join(yield* T.folder, "notes")
        writeFileSync(file, "")
        const notes = () =>
          readFileSync(file, "utf8").split("\n").slice(0, -1).map((line) => {
            const [what, partition, epoch, aggregate, sequence] = line.split(" ")
            return {
              what,
              partition: Number(partition),
              epoch: Number(epoch),
              aggregate: aggregate!,
              sequence: Number(sequence)
            }
          })
        const started: Array<{ partition: number; epoch: number; aggregate: string; sequence: number; at: number }> = []
        const ended = new Set<string>()
        const counters = new Map<string, number>()
        const publisher = yield* publishing(servers, name, 12, (aggregate) => {
          const sequence = counters.get(aggregate) ?? 0
          counters.set(aggregate, sequence + 1)
          return sequence
        })
        yield* instance(servers, name, 12, (aggregate, sequence, partition, epoch) =>
          Effect.sync(() =>
            started.push({ partition, epoch, aggregate, sequence, at: performance.now() })
          ).pipe(
            Effect.zipRight(Effect.sleep(2)),
            Effect.zipRight(Effect.sync(() =>
              ended.add(`${aggregate}/${sequence}`)
            ))
          ))
        const other = (signal: "SIGKILL" | "SIGSTOP") =>
          Effect.gen(function*() {
            const child = yield* T.child("instance.ts", servers[0]!, name, "12", file)
            yield* untilSpread(nc, name, [6, 6])
            const from = notes().length
            yield* T.waitUntil("it works", () => notes().length > from + 100 || child.code() !== undefined)
            assert.strictEqual(child.errors(), "")
            const its = new Set(notes().slice(from).map(({ partition }) => partition))
            const at = performance.now()
            child.signal(signal)
            const taken = () => started.find((one) => one.at > at && its.has(one.partition))
            yield* T.waitUntil("it is taken over", () => taken() !== undefined)
            yield* untilSpread(nc, name, [12])
            console.log(`${signal} on ${version}: taken over after ${Math.round(taken()!.at - at)} ms, lease 2000 ms`)
            return child
          })
        yield* other("SIGKILL")
        const stopped = yield* other("SIGSTOP")
        const before = notes().length
        const epochs = new Map(notes().map(({ epoch, partition }) => [partition, epoch]))
        stopped.signal("SIGCONT")
        yield* untilSpread(nc, name, [6, 6])
        yield* T.waitUntil("it takes part again", () =>
          notes().slice(before).some(({ epoch, partition }) =>
            epoch > (epochs.get(partition) ?? 0)
          ))
        yield* Fiber.interrupt(publisher)
        const published = Array.from(counters).flatMap(([aggregate, count]) =>
          T.range(0, count).map((sequence) => `${aggregate}/${sequence}`)
        )
        const finished = () =>
          new Set([
            ...ended,
            ...notes().filter(({ what }) => what === "end").map(({ aggregate, sequence }) => `${aggregate}/${sequence}`)
          ])
        yield* T.waitUntil("all is handled", () => {
          const all = finished()
          return published.every((one) => all.has(one))
        })

        // In one epoch an aggregate only goes forward, without a gap; and a later epoch begins where nothing is left out.
        const heads = new Map<string, number>()
        const last = new Map<string, number>()
        const all = [...started, ...notes().filter(({ what }) => what === "start")].map((one, index) => ({
          ...one,
          index
        }))
        const sorted = all.sort((a, b) => a.epoch - b.epoch || a.index - b.index)
        const violations = sorted.flatMap(({ aggregate, epoch, sequence }) => {
          const key = `${aggregate}/${epoch}`
          const expected = last.has(key) ? last.get(key)! + 1 : undefined
          const head = heads.get(aggregate) ?? 0
          last.set(key, sequence)
          heads.set(aggregate, Math.max(head, sequence + 1))
          const isFine = expected === undefined ? sequence <= head : sequence === expected
          return isFine ? [] : [`${key}: ${sequence} after ${expected === undefined ? head : expected}`]
        })
        assert.deepStrictEqual(violations, [])
        // What it had in its mailboxes before it noticed: handlers of rule 12, each with the old epoch.
        const late = notes().slice(before).filter(({ epoch, partition, what }) =>
          what === "start" && epoch <= (epochs.get(partition) ?? 0)
        )
        console.log(`${late.length} handlers of the suspended instance began before it noticed`)
        assert.isBelow(late.length, 100)
      })),
    240_000
  )

  it(
    "an instance that is cut off interrupts its handlers before another one begins",
    () =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
        const { name } = T.topic("plain")
        const topic = { name, kind: "plain", partitions: 2 } as const
        const publisher = yield* T.transport(servers)
        yield* T.publish(publisher, topic, T.messages(0, 10, 10))
        const log: Array<{ readonly what: string; readonly epoch: number; readonly at: number }> = []
        const handler = (what: string): Handler => (_aggregate, _sequence, partition, epoch) =>
          Effect.sync(() => log.push({ what: `${what} begins ${partition}`, epoch, at: performance.now() })).pipe(
            Effect.zipRight(Effect.never),
            Effect.onInterrupt(() =>
              Effect.sync(() => log.push({ what: `${what} ends ${partition}`, epoch, at: performance.now() }))
            )
          )
        const count = (text: string) => log.filter(({ what }) => what.startsWith(text)).length
        yield* instance([proxy.address], name, 2, handler("first"))
        yield* T.waitUntil("all run", () => count("first begins") === 10)
        yield* proxy.blackhole
        const cutAt = performance.now()
        yield* instance(servers, name, 2, handler("second"))
        yield* T.waitUntil("all run elsewhere", () => count("second begins") === 10)
        const ends = log.filter(({ what }) => what.startsWith("first ends"))
        const begins = log.filter(({ what }) => what.startsWith("second begins"))
        assert.lengthOf(ends, 10)
        assert.isBelow(Math.max(...ends.map(({ at }) => at)), Math.min(...begins.map(({ at }) => at)))
        assert.isAbove(Math.min(...begins.map(({ epoch }) => epoch)), Math.max(...ends.map(({ epoch }) => epoch)))
        console.log(
          `cut off on ${version}: interrupted after ${Math.round(ends[0]!.at - cutAt)} ms, ` +
            `taken over after ${Math.round(begins[0]!.at - cutAt)} ms, lease 2000 ms`
        )
        yield* proxy.flow
      })),
    60_000
  )

  it("a partition that names an instance which does not have it is nobody's for long", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const { name } = T.topic("plain")
      const nc = yield* T.client(servers)
      const handled = new Set<string>()
      const handler: Handler = (aggregate, sequence) => Effect.sync(() => handled.add(`${aggregate}/${sequence}`))
      yield* instance(servers, name, 4, handler)
      yield* untilSpread(nc, name, [4])
      const [one] = yield* owners(nc, name, 4)
      yield* instance(servers, name, 4, handler)
      yield* untilSpread(nc, name, [2, 2])
      // As if the first could not say that it gives a partition back, or a lease of its had ended and nobody had noticed.
      const others = (yield* owners(nc, name, 4)).findIndex((owner) => owner !== one)
      yield* Effect.promise(async () => {
        const kv = await nc.jetstream().views.kv("eventbus-leases")
        await kv.put(`${Subject.toLease("group", name)}.partition.${others}`, JSON.stringify({ owner: one }))
      })
      yield* untilSpread(nc, name, [2, 2])
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, { name, kind: "plain", partitions: 4 }, T.messages(0, 100))
      yield* T.waitUntil("all is handled", () => handled.size === 100)
    })))

  it("a subscription that fails while it takes its partitions leaves no reader behind", () =>
    T.run(Effect.gen(function*() {
      // Nobody may take the last partition.
      const { servers } = yield* T.server(
        version,
        `authorization {
          default_permissions { publish: { deny: "$KV.eventbus-leases.group.*.partition.39" } }
          users: [{ user: u, password: p }]
        }`
      )
      const options = { servers, user: "u", password: Redacted.make("p"), requestTimeout: "1 second" } as const
      const service = yield* T.transport(servers, options)
      const topic = { ...T.topic(), partitions: 40 }
      const consumer = new T.TestConsumer()
      const failure = yield* Effect.flip(Effect.scoped(service.subscribe(T.request(topic), consumer)))
      assert.strictEqual(failure._tag, "SubscribeFailed")
      assert.include(failure.message, "the user has no permission to publish to")
      const nc = yield* T.client(servers, { user: "u", pass: "p" })
      // It had some.
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const filter = { subjects_filter: `$KV.eventbus-leases.${Subject.toLease("group", topic.name)}.partition.*` }
      const { state } = yield* Effect.promise(() => jsm.streams.info("KV_eventbus-leases", filter))
      assert.isAbove(Object.keys(state.subjects ?? {}).length, 0)
      assert.isTrue((yield* owners(nc, topic.name, 40)).every((owner) => owner === undefined))
      yield* T.publish(service, topic, T.messages(0, 100, 100))
      const infos = yield* Effect.forEach(T.range(0, 40), (partition) =>
        T.consumerInfo(
          nc,
          Subject.toStream(topic.name),
          Either.getOrThrow(Subject.toDurable("group", topic.name, partition))
        ), { concurrency: 8 })
      assert.deepStrictEqual(infos.filter(({ num_waiting }) => num_waiting > 0), [])
      assert.lengthOf(consumer.taken, 0)
    })))

  it("a subscription that was made where nothing can be interrupted can be closed", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = { ...T.topic(), partitions: 2 }
      const service = yield* T.transport(servers)
      const subscribed = yield* T.scoped(
        Effect.uninterruptible(service.subscribe(T.request(topic), new T.TestConsumer()))
      )
      const closed = yield* Effect.forkDaemon(subscribed.close)
      yield* T.waitUntil("it is closed", () => closed.unsafePoll() !== null, 10_000)
    })))

  it("what foreign publishers write to a partition is known by the aggregate in its subject", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = { ...T.topic(), partitions: 4 }
      const service = yield* T.transport(servers)
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      const nc = yield* T.client(servers)
      const js = nc.jetstream()
      const block = headers()
      block.set("Own", "1")
      yield* Effect.promise(() => js.publish(`${topic.name}.2.order:1~x`, "7", { headers: block }))
      yield* T.waitUntil("it came", () => consumer.taken.length === 1)
      assert.deepInclude(consumer.taken[0]!, {
        topic: topic.name,
        partition: 2,
        key: new TextEncoder().encode("order:1.x")
      })
      assert.strictEqual(consumer.assignments.length, 4)
      // Whoever counts the partitions otherwise is refused.
      const other = { ...topic, partitions: 5 }
      const stranger = yield* T.transport(servers)
      const refused = yield* T.publish(stranger, other, [T.message(2)]).pipe(Effect.flip)
      assert.strictEqual(refused._tag, "InvalidConfiguration")
      assert.match(refused.message, /partitions=4 .*partitions=5/)
      const error = yield* Effect.flip(stranger.subscribe(T.request(other), new T.TestConsumer()))
      assert.strictEqual(error._tag, "InvalidConfiguration")
    })))
})

describe.each(T.versions)("A topic without partitions on %s", (version) => {
  it("has one owner: a second start stands by until the first has ended, and goes on with a higher epoch", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const service = yield* T.transport(servers)
      const first = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(
        Effect.flatMap(T.transport(servers), (service) => service.subscribe(T.request(topic), first))
      )
      yield* T.publish(service, topic, T.messages(0, 50))
      yield* T.waitUntil("the first has all", () => first.taken.length === 50)
      const second = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), second)
      yield* T.publish(service, topic, T.messages(50, 100))
      yield* T.waitUntil("the first has those, too", () => first.taken.length === 100)
      for (const message of first.taken.slice(0, 70)) first.finish(message)
      assert.lengthOf(second.assignments, 0)
      const start = performance.now()
      yield* one.close
      yield* T.waitUntil("the second has the rest", () => second.taken.length >= 30)
      console.log(`hand-over on ${version}: ${Math.round(performance.now() - start)} ms`)
      T.assertNumbers(second.numbers, T.range(70, 100))
      assert.isAbove(second.assignment.epoch, first.assignment.epoch)
    })))

  it("settles nothing any more when the lease has ended, so that a plain message is handled once", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const topic = T.topic("plain")
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 10))
      const first = new T.TestConsumer({ onMessage: () => {} })
      const options = { leaseDuration: "2 seconds", reconnectWait: "50 millis" } as const
      const service = yield* T.transport([proxy.address], options)
      yield* service.subscribe(T.request(topic, { semantics: "at-most-once" }), first)
      yield* T.waitUntil("the first has them", () => first.taken.length === 10)
      yield* proxy.blackhole
      const settling = yield* Effect.fork(Effect.either(first.assignment.settle(first.taken)))
      const second = new T.TestConsumer({ onMessage: () => {} })
      const other = yield* T.transport(servers, options)
      yield* other.subscribe(T.request(topic, { semantics: "at-most-once" }), second)
      yield* T.waitUntil("the second has them", () => second.taken.length === 10)
      yield* proxy.flow
      yield* second.assignment.settle(second.taken)
      const late = yield* Fiber.join(settling)
      assert.include(Either.getOrThrow(Either.flip(late)), { _tag: "SettlementFailed", isRetryable: false })
    })))
})
