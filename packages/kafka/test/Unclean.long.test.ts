/**
 * A replica becomes leader that has less of the log than the one before (`unclean.leader.election.enable`), again and again, while
 * messages are published and handled: none that the log has in the end is passed over, and none comes again unannounced.
 */
import { EventBusError, type Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  kafka,
  makeConsumer,
  message,
  ownCluster,
  published,
  request,
  spec,
  text,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

const ROUNDS = 2

interface Seen {
  readonly offset: number
  readonly value: string
  readonly maybeDuplicate: boolean
}

describe("three brokers, and leaders that have less of the log than those before", () => {
  const cluster = ownCluster({ nodes: 3 })
  const bootstrap = () => cluster().bootstrap
  const nodeOf = (id: number) => cluster().nodes.find((node) => node.id === id)!

  const partitionOf = (topic: string) =>
    withAdmin(async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return topics[0]!.partitions[0]!
    }, bootstrap())

  const until = (what: string, topic: string, condition: (found: { leader: number; isr: Array<number> }) => boolean) =>
    Effect.gen(function*() {
      let isTrue = false
      yield* Effect.raceFirst(
        Effect.forever(Effect.zipRight(
          Effect.tap(partitionOf(topic), (found) =>
            Effect.sync(() => {
              isTrue = condition(found)
            })),
          Effect.sleep("200 millis")
        )),
        eventually(what, () => isTrue, "90 seconds")
      )
    })

  /** What the log has, as somebody reads it who does not know of us. */
  const logOf = (topic: string, count: number) =>
    Effect.promise(async () => {
      const consumer = kafka(bootstrap()).consumer({ groupId: `reads-${topic}` })
      await consumer.connect()
      await consumer.subscribe({ topic, fromBeginning: true })
      const log: Array<{ readonly offset: number; readonly value: string }> = []
      await new Promise<void>((resolve) => {
        void consumer.run({
          eachMessage: ({ message }) => {
            log.push({ offset: Number(message.offset), value: text(message.value) })
            if (log.at(-1)!.offset >= count - 1) resolve()
            return Promise.resolve()
          }
        })
      })
      await consumer.disconnect()
      return log
    })

  /** Settles first, where messages are handled at most once, as the bus does. */
  const settling = (seen: Array<Seen>) => {
    const waiting: Array<{ readonly assignment: Transport.Assignment; readonly one: Transport.IncomingMessage }> = []
    const note = ({ maybeDuplicate, offset, value }: Transport.IncomingMessage) =>
      seen.push({ offset, value: text(value), maybeDuplicate })
    const settle = Effect.suspend(() => {
      const next = waiting.splice(0, 100)
      const { assignment } = next[0]!
      const own = next.filter((one) => one.assignment === assignment)
      waiting.unshift(...next.slice(own.length))
      return assignment.settle(own.map(({ one }) => one)).pipe(
        Effect.retry({ while: ({ isRetryable }) => isRetryable }),
        Effect.match({
          onFailure: () => {},
          onSuccess: () => {
            for (const { one } of own) note(one)
          }
        })
      )
    })
    const run = Effect.forever(Effect.suspend(() => waiting.length > 0 ? settle : Effect.sleep("5 millis")))
    return {
      run,
      onTake: (assignment: Transport.Assignment, one: Transport.IncomingMessage) => waiting.push({ assignment, one })
    }
  }

  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it.scopedLive(
      `${semantics}: nothing is passed over, and nothing comes again unannounced`,
      () =>
        Effect.gen(function*() {
          const topic = spec(topicName())
          const replicas = [1, 2]
          yield* withAdmin((admin) =>
            admin.createTopics({
              topics: [{
                topic: topic.name,
                replicaAssignment: [{ partition: 0, replicas }],
                configEntries: [
                  { name: "min.insync.replicas", value: "1" },
                  { name: "unclean.leader.election.enable", value: "true" }
                ]
              }]
            }), bootstrap())
          const service = yield* transport({ brokers: bootstrap(), requestTimeout: Duration.seconds(3) })
          const seen: Array<Seen> = []
          const settled = settling(seen)
          /** Some are finished late, so that others are finished above the commit. */
          const late: Array<() => void> = []
          const { consumer } = makeConsumer({
            onTake: ({ assignment }, one) => {
              if (semantics === "at-most-once") settled.onTake(assignment, one)
              else {
                seen.push({ offset: one.offset, value: text(one.value), maybeDuplicate: one.maybeDuplicate })
                if (one.offset % 10 === 0) late.push(() => assignment.finish(one))
                else assignment.finish(one)
                if (late.length > 4) late.shift()!()
              }
            }
          })
          yield* Effect.forkScoped(settled.run)
          yield* service.subscribe(request(topic, { semantics }), consumer)

          let n = 0
          const publisher = yield* Effect.suspend(() =>
            published(service, topic, [message("a", `event ${n++}`)], "60 seconds")
          ).pipe(
            // Of what a leader had that nobody else had, it is not known what became of it.
            Effect.catchAll((error) => error instanceof EventBusError.PublishFailed ? Effect.void : Effect.die(error)),
            Effect.zipRight(Effect.sleep("5 millis")),
            Effect.forever,
            Effect.forkScoped
          )
          const flows = (what: string) =>
            Effect.suspend(() => {
              const before = seen.length
              return eventually(what, () => seen.length > before + 50, "90 seconds")
            })

          for (let round = 0; round < ROUNDS; round++) {
            yield* until("both replicas are in sync", topic.name, ({ isr }) => isr.length === 2)
            yield* flows("messages flow")
            const { leader } = yield* partitionOf(topic.name)
            const other = replicas.find((id) => id !== leader)!
            yield* Effect.acquireRelease(nodeOf(other).kill, () => Effect.orDie(nodeOf(other).start))
            yield* until("the leader goes on alone", topic.name, ({ isr }) => isr.length === 1)
            yield* flows("what only one of them has flows, too")
            yield* Effect.acquireRelease(nodeOf(leader).kill, () => Effect.orDie(nodeOf(leader).start))
            yield* nodeOf(other).start
            yield* flows("and what has taken its place")
            yield* nodeOf(leader).start
          }
          yield* Fiber.interrupt(publisher)
          const [end] = yield* withAdmin((admin) => admin.fetchTopicOffsets(topic.name), bootstrap())
          yield* eventually("all is handled", () => seen.at(-1)?.offset === Number(end!.high) - 1, "60 seconds")

          const log = yield* logOf(topic.name, Number(end!.high))
          const nameOf = ({ offset, value }: { readonly offset: number; readonly value: string }) =>
            `${offset} ${value}`
          const handled = new Set(seen.map(nameOf))
          const values = new Set<string>()
          const offsets = new Set<number>()
          const unannounced: Array<string> = []
          let again = 0
          for (const one of seen) {
            if ((values.has(one.value) || offsets.has(one.offset)) && !one.maybeDuplicate) unannounced.push(nameOf(one))
            if (values.has(one.value)) again++
            values.add(one.value)
            offsets.add(one.offset)
          }
          const gone = seen.length - again - log.length
          console.log(
            `${semantics}: ${log.length} in the log, ${gone} handled that were lost with their leader, ${again} again`
          )
          expect(log.filter((one) => !handled.has(nameOf(one))).map(nameOf), "passed over").toEqual([])
          expect(unannounced, "again, and not announced").toEqual([])
          expect(gone, "what was cut").toBeGreaterThan(0)
          if (semantics === "at-most-once") expect(again).toBe(0)
          const inLog = new Set(log.map(nameOf))
          const first = [...new Set(seen.map(nameOf).filter((name) => inLog.has(name)))]
          expect(first, "in order").toEqual(log.map(nameOf))
        }),
      600_000
    )
  }
})
