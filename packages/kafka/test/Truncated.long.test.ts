import type { Transport } from "@effect-eventbus/core"
import type { KafkaConfig } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { readdir, readFile, truncate } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect } from "vitest"
import { eventually, makeConsumer, message, ownCluster, published, request, spec, text, transport } from "./Harness.js"

describe("a log that was cut at its end while its broker was away", () => {
  const cluster = ownCluster({ config: { "log.index.interval.bytes": "1" } })
  const connect = (more: Partial<KafkaConfig.Options> = {}) =>
    transport({
      brokers: cluster().bootstrap,
      requestTimeout: Duration.seconds(3),
      commitInterval: Duration.millis(50),
      // However long a broker takes to come back, the member keeps what it has.
      sessionTimeout: Duration.minutes(2),
      ...more
    })

  /** The first message is never finished, save by hand. */
  const allButTheFirst = () =>
    makeConsumer({
      onTake: ({ assignment }, one) => {
        if (one.offset > 0) assignment.finish(one)
      }
    })

  /** Leaves the first batches of the only segment, of one message each. */
  const cutTo = (topic: string, batches: number) =>
    Effect.promise(async () => {
      const folder = join(cluster().dataOf(1)!, `${topic}-0`)
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log"))
      const file = join(folder, segment!)
      const bytes = await readFile(file)
      let at = 0
      for (let left = batches; left > 0; left--) at += 12 + bytes.readInt32BE(at + 8)
      expect(at).toBeLessThan(bytes.length)
      await truncate(file, at)
    })

  const publishEach = (service: Transport.Service, topic: Transport.TopicSpec, values: ReadonlyArray<string>) =>
    Effect.forEach(values, (value) => published(service, topic, [message("a", value)], "30 seconds"), { discard: true })

  const seen = ({ maybeDuplicate, offset, value }: Transport.IncomingMessage) => [offset, text(value), maybeDuplicate]

  /** By a producer of its own: the broker has forgotten how far the other one had counted. */
  const publishNew = (topic: Transport.TopicSpec, values: ReadonlyArray<string>) =>
    Effect.scoped(Effect.flatMap(connect(), (service) => publishEach(service, topic, values)))

  const lost = Array.from({ length: 10 }, (_, i) => `old ${i}`)
  const named = (from: string, count: number) => Array.from({ length: count }, (_, i) => `${from} ${i}`)

  /** Everything is read by a consumer that then stops. The log is cut to 6 messages meanwhile, and so many new ones follow. */
  const cutWhileStopped = (first: ReturnType<typeof makeConsumer>, grown: number) =>
    Effect.gen(function*() {
      const [node] = cluster().nodes
      const topic = spec()
      const service = yield* connect()
      yield* Effect.scoped(Effect.gen(function*() {
        yield* service.subscribe(request(topic), first.consumer)
        yield* publishEach(service, topic, lost)
        yield* eventually("all arrive", () => first.values().length === 10)
      }))
      yield* node!.kill
      yield* cutTo(topic.name, 6)
      yield* node!.start
      yield* publishNew(topic, named("new", grown))
      return { service, topic }
    })

  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it.scopedLive(
      `${semantics}: whoever goes on reads from where it was cut, and what comes is marked`,
      () =>
        Effect.gen(function*() {
          const [node] = cluster().nodes
          const topic = spec()
          const service = yield* connect()
          const { all, consumer, values } = makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) })
          yield* service.subscribe(request(topic, { semantics }), consumer)
          yield* publishEach(service, topic, lost)
          yield* eventually("all arrive", () => values().length === 10)
          yield* node!.kill
          yield* cutTo(topic.name, 6)
          yield* node!.start
          yield* publishNew(topic, named("new", 6))
          yield* eventually("those that took the places of others arrive", () => values().at(-1) === "new 5")
          // Where the coordinator had not stored the last commit when the broker was killed, what is left of the old ones comes again, too.
          const again = semantics === "at-most-once" ? [] : lost.slice(22 - values().length, 6)
          expect(values()).toEqual([...lost, ...again, ...named("new", 6)])
          // Later ones may be marked, too: where the coordinator does not answer yet, it begins from the commit, which was not a clean one.
          const marked = all().slice(10, 14 + again.length)
          expect(marked.map(({ maybeDuplicate, offset }) => [offset, maybeDuplicate])).toEqual(
            Array.from({ length: 4 + again.length }, (_, i) => [6 - again.length + i, true])
          )
        }),
      120_000
    )
  }

  it.scopedLive(
    "it is noticed, too, where it has grown past what was read before anybody looks",
    () =>
      Effect.gen(function*() {
        const [node] = cluster().nodes
        const topic = spec()
        const service = yield* connect()
        const { all, consumer, lanes, values } = makeConsumer({
          onTake: ({ assignment }, one) => {
            if (one.offset > 0 || one.maybeDuplicate) assignment.finish(one)
          }
        })
        // With one unfinished, nothing is fetched any more.
        yield* service.subscribe(request(topic, { maxAboveWatermark: 10 }), consumer)
        yield* publishEach(service, topic, lost)
        yield* eventually("all arrive", () => values().length === 10)
        yield* node!.kill
        yield* cutTo(topic.name, 6)
        yield* node!.start
        yield* publishNew(topic, named("new", 8))
        expect(values()).toHaveLength(10)
        lanes[0]!.assignment.finish(lanes[0]!.taken[0]!)
        yield* eventually("all that is there arrives", () => values().at(-1) === "new 7")
        // If the coordinator has not stored yet how far this member had come, what is left of the old ones comes again, too.
        const again = lost.slice(0, values().length - 18)
        expect(values()).toEqual([...lost, ...again, ...named("new", 8)])
        expect(all().slice(10, -4).every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
      }),
    120_000
  )

  /** The first one comes again, and then what has taken the places of those that were finished above it. How far anybody had come is not known. */
  const afterTheFirst = (count: number) => [
    [0, "old 0", true],
    ...named("new", count).map((value, i) => [6 + i, value, true])
  ]

  it.scopedLive(
    "whoever was lost to the group meanwhile does not take what is new for what was finished above its commit",
    () =>
      Effect.gen(function*() {
        const [node] = cluster().nodes
        const topic = spec()
        const service = yield* connect({ sessionTimeout: Duration.seconds(6) })
        const { consumer, lanes } = allButTheFirst()
        yield* service.subscribe(request(topic), consumer)
        yield* publishEach(service, topic, lost)
        yield* eventually("all arrive", () => lanes[0]?.taken.length === 10)
        yield* node!.kill
        yield* eventually("the partition is given up", () => lanes[0]!.isClosed)
        yield* cutTo(topic.name, 6)
        yield* node!.start
        yield* publishNew(topic, named("new", 8))
        yield* eventually("all that is new arrives", () => text(lanes.at(-1)?.taken.at(-1)?.value ?? null) === "new 7")
        expect(lanes.slice(1).flatMap(({ taken }) => taken).map(seen)).toEqual(afterTheFirst(8))
      }),
    120_000
  )

  for (const grown of [2, 8]) {
    it.scopedLive(
      `nor does whoever was stopped meanwhile: ${grown} messages are new`,
      () =>
        Effect.gen(function*() {
          const { service, topic } = yield* cutWhileStopped(allButTheFirst(), grown)
          const second = allButTheFirst()
          yield* service.subscribe(request(topic), second.consumer)
          yield* eventually("all that is new arrives", () => second.values().at(-1) === `new ${grown - 1}`)
          expect(second.all().map(seen)).toEqual(afterTheFirst(grown))
        }),
      120_000
    )
  }

  for (const grown of [2, 8]) {
    it.scopedLive(
      `whoever was stopped meanwhile finds out when it begins: ${grown} messages are new`,
      () =>
        Effect.gen(function*() {
          const { service, topic } = yield* cutWhileStopped(
            makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) }),
            grown
          )
          const second = makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) })
          yield* service.subscribe(request(topic), second.consumer)
          yield* eventually("all that is new arrives", () => second.values().at(-1) === `new ${grown - 1}`)
          expect(second.all().map(seen)).toEqual(named("new", grown).map((value, i) => [6 + i, value, 6 + i < 10]))
        }),
      120_000
    )
  }
})
