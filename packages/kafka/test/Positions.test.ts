/** A group's positions that were changed from outside, or are of another topic. */
import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Logger, LogLevel, Scope } from "effect"
import kafkajs from "kafkajs"
import { connect } from "node:net"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  kafka,
  makeConsumer,
  numbered,
  published,
  request,
  shared,
  spec,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

const text = (value: string) => {
  const bytes = Buffer.alloc(2 + value.length)
  bytes.writeInt16BE(value.length)
  bytes.write(value, 2)
  return bytes
}

const int32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** OffsetDelete, which kafkajs doesn't have: `kafka-consumer-groups.sh --delete-offsets`. */
const deleteOffsets = (group: string, topic: string, partition: number) =>
  Effect.async<number>((resume) => {
    const [host, port] = shared()[0]!.split(":")
    const socket = connect(Number(port), host)
    const body = Buffer.concat([
      Buffer.of(0, 47, 0, 0),
      int32(1),
      text("test"),
      text(group),
      int32(1),
      text(topic),
      int32(1),
      int32(partition)
    ])
    socket.once("data", (answer) => {
      socket.destroy()
      resume(Effect.succeed(answer.readInt16BE(8)))
    })
    socket.write(Buffer.concat([int32(body.length), body]))
  })

const logged = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    if (LogLevel.greaterThanEqual(logLevel, LogLevel.Warning)) {
      lines.push(`${String(message)} ${JSON.stringify([...annotations])}`)
    }
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** A member that handles so many and ends; what it got. */
const handled = (
  service: Transport.Service,
  topic: Transport.TopicSpec,
  count: number,
  more: Partial<Transport.SubscribeRequest> = {}
) =>
  Effect.scoped(Effect.gen(function*() {
    const consumer = finishing()
    yield* service.subscribe(request(topic, more), consumer.consumer)
    yield* eventually("they arrive", () => consumer.all().length >= count)
    return { all: consumer.all(), epochs: consumer.lanes.map(({ assignment }) => assignment.epoch) }
  }))

describe("positions that were changed from outside", () => {
  it.scopedLive("deleted offsets: it is said, what was there is marked, and epochs rise on", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport()
      yield* published(service, topic, numbered(30))
      const before = yield* handled(service, topic, 30)
      expect(before.all.some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
      expect(lines).toEqual([])
      expect(yield* deleteOffsets(`tests.${topic.name}`, topic.name, 0)).toBe(0)
      const after = yield* handled(service, topic, 30)
      expect(after.all.every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
      expect(lines.filter((line) => line.includes("its offsets were deleted or expired"))).toHaveLength(1)
      expect(after.epochs[0]).toBeGreaterThan(before.epochs[0]!)
      yield* published(service, topic, numbered(1))
      const last = yield* handled(service, topic, 1)
      expect(last.all).toMatchObject([{ offset: 30, maybeDuplicate: false }])
    }).pipe(Effect.provide(layer))
  })

  it.scopedLive("deleted offsets of a group that begins at the latest: what is passed over is said", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport()
      yield* published(service, topic, numbered(3))
      yield* Effect.scoped(service.subscribe(request(topic, { startFrom: "latest" }), finishing().consumer))
      expect(lines).toEqual([])
      yield* deleteOffsets(`tests.${topic.name}`, topic.name, 0)
      yield* published(service, topic, numbered(3))
      yield* Effect.scoped(service.subscribe(request(topic, { startFrom: "latest" }), finishing().consumer))
      expect(lines).toHaveLength(1)
      expect(lines[0]).toContain("what is below is passed over")
    }).pipe(Effect.provide(layer))
  })

  it.scopedLive("a commit beyond the end: nothing is lost, what comes again is marked, and it is said", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport()
      yield* published(service, topic, numbered(20))
      yield* handled(service, topic, 20)
      yield* withAdmin((admin) =>
        admin.setOffsets({
          groupId: `tests.${topic.name}`,
          topic: topic.name,
          partitions: [{ partition: 0, offset: "1020" }]
        })
      )
      const { all } = yield* handled(service, topic, 20)
      expect(all.every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
      expect(lines.some((line) => line.includes("beyond the end of the log"))).toBe(true)
    }).pipe(Effect.provide(layer))
  })

  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it.scopedLive(`a commit above a transaction that is open is within the log: nothing comes again (${semantics})`, () => {
      const { layer, lines } = logged()
      return Effect.gen(function*() {
        const topic = spec()
        const service = yield* transport()
        yield* published(service, topic, numbered(20))
        const producer = kafka().producer({
          transactionalId: topic.name,
          maxInFlightRequests: 1,
          idempotent: true,
          createPartitioner: kafkajs.Partitioners.DefaultPartitioner
        })
        yield* Effect.acquireRelease(
          Effect.promise(() => producer.connect()),
          () => Effect.promise(() => producer.disconnect())
        )
        const open = yield* Effect.promise(() => producer.transaction())
        yield* Effect.promise(() => open.send({ topic: topic.name, messages: [{ key: "a", value: "open" }] }))
        // As whoever reads what is not committed, and `kafka-consumer-groups.sh --to-latest`, has it.
        yield* withAdmin((admin) =>
          admin.setOffsets({
            groupId: `tests.${topic.name}`,
            topic: topic.name,
            partitions: [{ partition: 0, offset: "21" }]
          })
        )
        const consumer = finishing()
        yield* service.subscribe(request(topic, { semantics }), consumer.consumer)
        yield* Effect.promise(() => open.commit())
        // The broker answers before it has written the marker, which has the next offset.
        const end = withAdmin(async (admin) => Number((await admin.fetchTopicOffsets(topic.name))[0]!.high))
        yield* Effect.repeat(Effect.delay(end, "20 millis"), { until: (offset) => offset === 22 }).pipe(
          Effect.timeout("20 seconds")
        )
        yield* published(service, topic, numbered(1))
        yield* eventually("what is new arrives", () => consumer.all().some(({ offset }) => offset === 22))
        expect(consumer.all().map(({ offset }) => offset)).toEqual([22])
        expect(lines).toEqual([])
      }).pipe(Effect.provide(layer))
    })
  }

  it.scopedLive("offsets of a topic that was deleted mean nothing in one of the same name, also where a lane was full", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport({ commitInterval: Duration.millis(50) })
      yield* published(service, topic, numbered(30))
      const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
      // Its lane is full: it fetches nothing, and does not hear that the topic is gone.
      const full = makeConsumer({ room: ({ taken }) => 10 - taken.length })
      yield* service.subscribe(request(topic), full.consumer).pipe(Scope.extend(scope))
      yield* eventually("it is full", () => full.all().length === 10)
      yield* withAdmin(async (admin) => {
        await admin.deleteTopics({ topics: [topic.name] })
        for (let i = 0; i < 200 && (await admin.listTopics()).includes(topic.name); i++) {
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        await admin.createTopics({ topics: [{ topic: topic.name, numPartitions: 1 }] })
      })
      const other = yield* transport()
      yield* published(other, topic, numbered(20))
      for (const one of full.all().slice(0, 8)) full.lane(0).assignment.finish(one)
      yield* Effect.sleep("300 millis")
      yield* Scope.close(scope, Exit.void)
      const { all } = yield* handled(other, topic, 20)
      expect(all.map(({ offset }) => offset)).toEqual(Array.from({ length: 20 }, (_, i) => i))
      expect(lines.some((line) => line.includes("was deleted"))).toBe(true)
    }).pipe(Effect.provide(layer))
  })

  it.scopedLive("a group that is new says nothing, however many members begin at once", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const topic = spec(topicName(), 4)
      const services = yield* Effect.forEach([1, 2, 3], () => transport({ heartbeatInterval: Duration.millis(100) }))
      yield* published(services[0]!, topic, numbered(40, (i) => `k${i}`))
      const consumers = services.map(() => finishing())
      yield* Effect.forEach(services, (service, i) => service.subscribe(request(topic), consumers[i]!.consumer), {
        concurrency: "unbounded"
      })
      yield* eventually("all arrive", () => consumers.flatMap(({ all }) => all()).length >= 40)
      expect(lines.filter((line) => line.includes("has no position"))).toEqual([])
    }).pipe(Effect.provide(layer))
  })
})
