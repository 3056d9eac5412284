/**
 * Rule 12: once a partition is being taken away no handler of it begins any more.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Transport } from "@effect-eventbus/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newTopic, Step, type Subject, test } from "./Bench.js"

/** Records what happens to lanes while their partitions are taken away. */
class Revocations {
  readonly revoked = new Set<string>()
  /** How long the lanes took to close, in ms. */
  readonly took: Array<number> = []

  readonly layer = (inner: Subject["layer"]): Subject["layer"] =>
    Layer.provide(Layer.effect(Transport.Transport, Effect.map(Transport.Transport, this.watched)), inner)

  private readonly watched = (inner: Transport.Service): Transport.Service => ({
    ...inner,
    subscribe: (request, consumer) =>
      inner.subscribe(request, {
        assigned: (assignment) => {
          const lane = consumer.assigned(assignment)
          return {
            offer: (messages) => lane.offer(messages),
            close: (options) =>
              Effect.gen(this, function*() {
                if (options.finishQueued) return yield* lane.close(options)
                const since = yield* Clock.currentTimeMillis
                this.revoked.add(`${assignment.partition}/${assignment.epoch}`)
                const report = yield* lane.close(options)
                this.took.push((yield* Clock.currentTimeMillis) - since)
                return report
              })
          }
        }
      })
  })
}

/** A transport that owns its assignments for as long as the test says so. */
const ownedWhile = (isOwned: () => boolean, inner: Subject["layer"]): Subject["layer"] =>
  Layer.provide(
    Layer.effect(
      Transport.Transport,
      Effect.map(Transport.Transport, (transport): Transport.Service => ({
        ...transport,
        subscribe: (request, consumer) =>
          transport.subscribe(request, {
            assigned: (assignment) =>
              consumer.assigned({
                topic: assignment.topic,
                partition: assignment.partition,
                epoch: assignment.epoch,
                finish: (message) => assignment.finish(message),
                settle: (messages) => assignment.settle(messages),
                resume: () => assignment.resume(),
                isOwned: () => isOwned() && assignment.isOwned?.() !== false
              })
          })
      }))
    ),
    inner
  )

const ownership = (subject: Subject, semantics: Transport.Semantics, concurrency: number | undefined): void => {
  const how = `${semantics}, with concurrency ${concurrency ?? "unbounded"}`
  test(`rule 12: no handler begins once another member may have the partition, ${how}`, () => {
    let isOwned = true
    const options = { closeDeadline: "10 seconds" } as const
    return inBus(
      ownedWhile(() => isOwned, subject.layer),
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("owned", 1)
        let [started, late] = [0, 0]
        const handler = () =>
          Effect.suspend(() => {
            started++
            if (!isOwned) late++
            // One message of each aggregate is in hand or waits for a permit, and one waits behind it.
            if (started === (concurrency ?? 5)) isOwned = false
            return Effect.sleep(20)
          })
        const subscription = yield* semantics === "at-most-once"
          ? bus.subscribe(topic, handler, { semantics, concurrency })
          : bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop, concurrency })
        yield* bus.publishAll(
          topic,
          Array.from({ length: 10 }, (_, i) => ({
            aggregateId: `order-${i % 5}`,
            payload: new Step({ sequence: i, fails: 0, dies: 0, takes: 0 })
          }))
        )
        yield* eventually("the handlers run", () => !isOwned)
        const { lost, unfinished } = yield* subscription.close
        expect(late).toBe(0)
        expect(started).toBe(concurrency ?? 5)
        expect(lost + unfinished).toBeLessThanOrEqual(10 - started)
        // Unsettled messages come again, and the other member handles them.
        if (semantics === "at-least-once") expect(lost).toBe(0)
      }),
      options
    )
  })
}

/**
 * @since 0.1.0
 * @category rules
 */
export const revocation = (subject: Subject): void => {
  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    for (const concurrency of [1, undefined]) ownership(subject, semantics, concurrency)
  }
  for (const concurrency of [1, undefined]) {
    test(`rule 12: no handler of a partition begins once it is taken away, with concurrency ${concurrency ?? "unbounded"}`, () => {
      const revocations = new Revocations()
      return inBus(
        revocations.layer(subject.layer),
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = newTopic("revoked", 4)
          const late: Array<string> = []
          const busy = new Set<number>()
          const receipts = yield* bus.publishAll(
            topic,
            Array.from({ length: 400 }, (_, i) => ({
              aggregateId: `order-${i % 40}`,
              payload: new Step({ sequence: i, fails: 0, dies: 0, takes: 0 })
            }))
          )
          const partitions = new Set(receipts.map(({ partition }) => partition)).size
          yield* bus.subscribe(topic, ({ sequence }, { epoch, partition }) =>
            Effect.suspend(() => {
              busy.add(partition)
              if (revocations.revoked.has(`${partition}/${epoch}`)) late.push(`${partition}/${epoch}`)
              // The handlers end at different times, so some go on while others begin.
              return Effect.sleep(100 + 13 * (sequence % 8))
            }), { onExhausted: FailurePolicy.drop, concurrency })
          yield* eventually("handlers of all partitions run", () => busy.size === partitions)
          yield* inBus(
            subject.layer,
            Effect.gen(function*() {
              const other = yield* EventBus.EventBus
              yield* other.subscribe(topic, () => Effect.sleep(150), { onExhausted: FailurePolicy.drop, concurrency })
              if (partitions > 1) yield* eventually("a partition moves", () => revocations.took.length > 0)
            }),
            { closeDeadline: "0 millis" }
          )
          expect(late).toEqual([])
          // One handler of some 200 ms for each lane may be in hand, and nothing waits behind it.
          expect(Math.max(0, ...revocations.took)).toBeLessThan(2_000)
        }),
        { closeDeadline: "0 millis" }
      )
    })
  }
}
