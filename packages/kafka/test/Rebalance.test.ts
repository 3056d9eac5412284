import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  makeConsumer,
  message,
  numbered,
  published,
  request,
  spec,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

const member = (options: Parameters<typeof makeConsumer>[0] = {}) => {
  const consumer = makeConsumer({
    onTake: ({ assignment }, one) => assignment.finish(one),
    ...options
  })
  return {
    ...consumer,
    partitions: () => consumer.open().map(({ assignment }) => assignment.partition).sort()
  }
}

describe("a group", () => {
  it.scopedLive(
    "one that comes gets its share after it was let go; what stays goes on, and nothing is handled twice",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 6)
        // Nobody is lost here, however busy the machine is: that would make duplicates.
        const timing = { heartbeatInterval: Duration.millis(100), sessionTimeout: Duration.minutes(1) }
        const service = yield* transport(timing)
        const handled: Array<string> = []
        const onTake: NonNullable<Parameters<typeof makeConsumer>[0]>["onTake"] = ({ assignment }, one) => {
          handled.push(`${one.partition}/${one.offset}`)
          assignment.finish(one)
        }
        const closed: Array<number> = []
        const first = member({
          onTake,
          onClose: ({ assignment }) =>
            Effect.sync(() => {
              closed.push(assignment.partition)
            })
        })
        yield* service.subscribe(request(topic), first.consumer)
        // A broker may not know at once that it leads a partition of a new topic.
        yield* eventually("it has all", () => first.partitions().length === 6)
        const publisher = yield* Effect.forkScoped(
          Effect.forEach(Array.from({ length: 60 }), () =>
            published(
              service,
              topic,
              numbered(50, (i) => `key-${i}`)
            ).pipe(Effect.zipRight(Effect.sleep("25 millis"))))
        )
        const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
        const second = member({ onTake })
        const other = yield* transport(timing).pipe(Scope.extend(scope))
        yield* other.subscribe(request(topic), second.consumer).pipe(Scope.extend(scope))
        yield* eventually("the new one has its share", () => second.partitions().length === 3)
        yield* eventually("all are somebody's", () => first.partitions().length === 3)
        expect([...first.partitions(), ...second.partitions()].sort()).toEqual([0, 1, 2, 3, 4, 5])
        // Three were let go, three have the lanes that they had.
        expect(closed.sort()).toEqual(second.partitions())
        expect(first.lanes).toHaveLength(6)
        for (const { assignment } of second.lanes) {
          const before = first.lanes.find((held) =>
            held.assignment.partition === assignment.partition
          )!.assignment.epoch
          expect(assignment.epoch).toBeGreaterThan(before)
        }
        yield* Scope.close(scope, Exit.void)
        yield* eventually("what it had comes back", () => first.partitions().length === 6)
        yield* publisher
        yield* eventually("all are handled", () => handled.length >= 3_000)
        yield* published(service, topic, [message("last", "last")])
        yield* eventually("and the last one", () => handled.length >= 3_001)
        expect(handled).toHaveLength(3_001)
        expect(new Set(handled).size).toBe(3_001)
        expect(first.all().concat(second.all()).some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
      }),
    40_000
  )

  it.scopedLive(
    "what runs when a partition is let go is waited for, and only then another gets it",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 2)
        // A busy machine can be late by three seconds.
        const timing = { heartbeatInterval: Duration.millis(100), sessionTimeout: Duration.seconds(4) }
        const service = yield* transport(timing)
        yield* published(service, topic, Array.from({ length: 20 }, (_, i) => message(undefined, String(i))))
        const first = member({
          // Finished when the lane is closed, after longer than the session timeout.
          onTake: () => undefined,
          onClose: ({ assignment, taken }) =>
            Effect.sleep("4500 millis").pipe(
              Effect.zipRight(Effect.sync(() => {
                for (const one of taken.slice(0, 4)) assignment.finish(one)
              }))
            )
        })
        yield* service.subscribe(request(topic, { drainDeadline: Duration.millis(400) }), first.consumer)
        yield* eventually("all are taken", () => first.all().length === 20)
        const other = yield* transport(timing)
        const second = member()
        yield* other.subscribe(request(topic, { drainDeadline: Duration.millis(400) }), second.consumer)
        yield* eventually("it has one", () => second.partitions().length === 1)
        yield* eventually("it gets the rest", () => second.all().length >= 6)
        expect(second.all().map(({ offset }) => offset)).toEqual([4, 5, 6, 7, 8, 9])
        expect(second.all().every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
        // The first was in the group all the time: the partition that it keeps has its lane.
        expect(first.partitions()).toHaveLength(1)
        expect(first.lanes).toHaveLength(2)
      }),
    30_000
  )

  it.scopedLive("partitions that are added are found and read", () =>
    Effect.gen(function*() {
      const topic = spec(topicName(), 1)
      const service = yield* transport({ metadataMaxAge: Duration.millis(200) })
      yield* published(service, topic, numbered(1))
      const { all, consumer } = member()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("it is there", () => all().length === 1)
      yield* withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic: topic.name, count: 3 }] }))
      yield* eventually("new messages reach all of them", () =>
        new Set(all().map(({ partition }) => partition)).size === 3)
        .pipe(Effect.raceFirst(Effect.forever(Effect.zipRight(
          published(service, topic, [message(undefined, "x")]),
          Effect.sleep("50 millis")
        ))))
    }), 30_000)
})
