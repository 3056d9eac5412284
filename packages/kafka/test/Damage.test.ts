import { it } from "@effect/vitest"
import { Chunk, Duration, Effect, Exit, HashMap, Logger, Option, Scope, Stream } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  message,
  numbered,
  ownCluster,
  published,
  request,
  spec,
  topicName,
  transport
} from "./Harness.js"

const VALUE = "to be damaged"

/** Changes a byte of the record with that value, so far before the value, on its way from the broker. */
const damaging = (before: number, byte: number) => (chunk: Buffer): void => {
  const at = chunk.indexOf(VALUE)
  if (at >= 3) chunk[at - before] = byte
}

/** A record without a key: ..., offset delta, key's length, value's length, value, headers. */
const damages = {
  "an offset below its batch's": damaging(3, 0x01),
  "a key that ends behind its record": damaging(2, 0x7e),
  "another text": damaging(-1, 0x20)
}

describe("records that are damaged on their way", () => {
  const cluster = ownCluster({ proxied: true })
  const connect = (more: Parameters<typeof transport>[0] = {}) =>
    transport({ brokers: cluster().bootstrap, subscribeTimeout: Duration.seconds(2), ...more })
  const alter = (change: ((chunk: Buffer) => void) | undefined) => cluster().proxies[0]!.alter(change)
  const altered = (change: (chunk: Buffer) => void) => Effect.acquireRelease(alter(change), () => alter(undefined))

  it.scopedLive("without checksums, what still can be read is taken for what it is", () =>
    Effect.gen(function*() {
      const service = yield* connect({ checkCrcs: false })
      const topic = spec()
      yield* published(service, topic, [message(undefined, VALUE)])
      yield* altered(damages["another text"])
      const { consumer, values } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("it arrives", () => values().length === 1)
      expect(values()).toEqual(["t  be damaged"])
    }), 30_000)

  for (const [what, damage] of Object.entries(damages)) {
    it.scopedLive(
      `${what}: it is said, other partitions go on, and all is read once it is whole`,
      () => {
        const lines: Array<unknown> = []
        const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
          if (logLevel._tag !== "Error") return
          lines.push([...[message].flat(), Option.getOrUndefined(HashMap.get(annotations, "partition"))])
        })
        return Effect.gen(function*() {
          const service = yield* connect()
          const topic = spec(topicName(), 2)
          const before = yield* published(service, topic, [
            message(undefined, "before 0"),
            message(undefined, "before 1")
          ])
          const [receipt] = yield* published(service, topic, [message(undefined, VALUE)])
          expect(receipt!.partition).toBe(before[0]!.partition)
          yield* altered(damage)
          const { all, consumer } = finishing()
          yield* service.subscribe(request(topic), consumer)
          yield* published(service, topic, numbered(20).map(({ value }) => message(undefined, String(value))))
          const of = (wanted: boolean) =>
            all().filter(({ partition }) => (partition === receipt!.partition) === wanted).map(({ value }) =>
              String(value)
            )
          yield* eventually("it is said", () => lines.length > 0)
          expect(lines[0]).toEqual([
            "Records can't be read, and the partition stands still",
            expect.stringMatching(/^CORRUPT_MESSAGE: A record batch of test-\S+\[\d\] at offset 1 is damaged: /),
            receipt!.partition
          ])
          yield* eventually("the other partition goes on", () => of(false).length === 11)
          yield* eventually("what comes before it is there", () => of(true).length === 1)
          // Those who leave don't wait for it.
          const other = yield* Scope.make()
          yield* service.subscribe(request(topic, { group: "others" }), finishing().consumer).pipe(Scope.extend(other))
          const closing = performance.now()
          yield* Scope.close(other, Exit.void)
          expect(performance.now() - closing).toBeLessThan(2_000)
          yield* alter(undefined)
          yield* eventually("all is read", () => of(true).length === 12)
          expect(of(true).slice(0, 2)).toEqual(["before 0", VALUE])
          expect(all().filter(({ value }) => String(value) === VALUE)).toHaveLength(1)
        }).pipe(Effect.scoped, Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      },
      30_000
    )

    it.scopedLive(
      `${what}: a replay waits for it, and fails where it stays`,
      () =>
        Effect.gen(function*() {
          const service = yield* connect()
          const topic = spec()
          yield* published(service, topic, [message("a", "before")])
          yield* published(service, topic, [message(undefined, VALUE)])
          const [part] = yield* service.read!({ topic, from: "earliest", to: "now" })
          const seen: Array<string> = []
          const reading = part!.messages.pipe(Stream.tap(({ value }) => Effect.sync(() => seen.push(String(value)))))
          yield* altered(damage)
          const failed = yield* Effect.flip(Stream.runDrain(reading))
          expect(seen).toEqual(["before"])
          expect(failed).toMatchObject({ _tag: "ReadFailed", partition: 0, cause: { type: "CORRUPT_MESSAGE" } })
          yield* Effect.forkScoped(Effect.delay(alter(undefined), "300 millis"))
          const read = yield* Stream.runCollect(part!.messages)
          expect(Chunk.toReadonlyArray(read).map(({ value }) => String(value))).toEqual(["before", VALUE])
        }),
      30_000
    )
  }
})
