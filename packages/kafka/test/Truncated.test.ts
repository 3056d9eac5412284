import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { readdir, readFile, truncate } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect } from "vitest"
import { eventually, makeConsumer, message, ownCluster, published, request, spec, text, transport } from "./Harness.js"

describe("a log that was cut at its end while its broker was away", () => {
  const cluster = ownCluster({ config: { "log.index.interval.bytes": "1" } })
  const connect = () =>
    transport({
      brokers: cluster().bootstrap,
      requestTimeout: Duration.seconds(3),
      commitInterval: Duration.millis(50)
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

  const lost = Array.from({ length: 10 }, (_, i) => `old ${i}`)
  const named = (from: string, count: number) => Array.from({ length: count }, (_, i) => `${from} ${i}`)

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
          yield* publishEach(service, topic, named("new", 6))
          yield* eventually("those that took the places of others arrive", () => values().at(-1) === "new 5")
          expect(values()).toEqual([...lost, ...named("new", 6)])
          expect(all().slice(10, 14).map(({ maybeDuplicate, offset }) => [offset, maybeDuplicate])).toEqual([
            [6, true],
            [7, true],
            [8, true],
            [9, true]
          ])
        }),
      60_000
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
            if (one.offset > 0) assignment.finish(one)
          }
        })
        // With one unfinished, nothing is fetched any more.
        yield* service.subscribe(request(topic, { maxAboveWatermark: 10 }), consumer)
        yield* publishEach(service, topic, lost)
        yield* eventually("all arrive", () => values().length === 10)
        yield* node!.kill
        yield* cutTo(topic.name, 6)
        yield* node!.start
        yield* publishEach(service, topic, named("new", 8))
        expect(values()).toHaveLength(10)
        lanes[0]!.assignment.finish(lanes[0]!.taken[0]!)
        yield* eventually("all that is there arrives", () => values().at(-1) === "new 7")
        expect(values()).toEqual([...lost, ...named("new", 8)])
        expect(all().slice(10, 14).map(({ maybeDuplicate }) => maybeDuplicate)).toEqual([true, true, true, true])
      }),
    60_000
  )

  for (const grown of [2, 8]) {
    it.scopedLive(
      `whoever was stopped meanwhile finds out when it begins: ${grown} messages are new`,
      () =>
        Effect.gen(function*() {
          const [node] = cluster().nodes
          const topic = spec()
          const service = yield* connect()
          const first = makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* service.subscribe(request(topic), first.consumer)
            yield* publishEach(service, topic, lost)
            yield* eventually("all arrive", () => first.values().length === 10)
          }))
          yield* node!.kill
          yield* cutTo(topic.name, 6)
          yield* node!.start
          yield* publishEach(service, topic, named("new", grown))
          const second = makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) })
          yield* service.subscribe(request(topic), second.consumer)
          yield* eventually("all that is new arrives", () => second.values().at(-1) === `new ${grown - 1}`)
          expect(second.all().map(({ maybeDuplicate, offset, value }) => [offset, text(value), maybeDuplicate]))
            .toEqual(
              named("new", grown).map((value, i) => [6 + i, value, 6 + i < 10])
            )
        }),
      60_000
    )
  }
})
