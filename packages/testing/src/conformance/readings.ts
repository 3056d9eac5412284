/**
 * Rules 8, 9 and 14 for messages that are no events: tombstones, and types that a newer version publishes. Errors may have any size
 * and kind. Nothing that the bus adds shows anything of a payload.
 *
 * @since 0.1.0
 */
import { DeadLetter, EventBus, FailurePolicy, Topic, Transport } from "@effect-eventbus/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

class Later extends Schema.TaggedClass<Later>()("Later", { secret: Schema.String }) {}

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** The dead letters of a topic, in the order of their arrival. */
const lettersOf = (dead: Topic.PlainTopic) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const letters: Array<DeadLetter.DeadLetter> = []
    yield* bus.subscribe(dead, (_, delivery) =>
      Effect.sync(() => letters.push(Option.getOrThrow(DeadLetter.fromDelivery(delivery)))))
    return letters
  })

/**
 * @since 0.1.0
 * @category rules
 */
export const readings = (subject: Subject): void => {
  test("rule 8: whatever an error is called, says or is, its dead letter is published, and closing ends", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("hostile", 1)
        const dead = Topic.plain(newName("hostile-letters"), { partitions: 1 })
        const letters = yield* lettersOf(dead)
        const ways: ReadonlyArray<() => Effect.Effect<void, unknown>> = [
          () => Effect.fail({ _tag: "T".repeat(1_100_000) }),
          () => Effect.fail({ _tag: "ä\r\nX-Injected: 1\r\n\u0000" }),
          () => Effect.fail(new Error("x".repeat(5_000_000))),
          () => Effect.fail(revoked()),
          () => Effect.die(revoked()),
          () => {
            throw revoked()
          },
          () => undefined as never
        ]
        const subscription = yield* bus.subscribe(topic, ({ sequence }) =>
          sequence < ways.length ? ways[sequence]!() : Effect.void, {
          onExhausted: FailurePolicy.deadLetter(dead),
          retry: Schedule.recurs(1)
        })
        yield* bus.publishAll(
          topic,
          [...ways, undefined].map((_, sequence) => ({
            aggregateId: "order-1",
            payload: new Step({ sequence, fails: 0, dies: 0, takes: 0 })
          }))
        )
        yield* eventually("all are through", () =>
          letters.length === ways.length && Effect.runSync(subscription.stats).handled === 1, "30 seconds")
        expect(letters.map(({ position }) =>
          position.topic
        )).toEqual(ways.map(() =>
          topic.name
        ))
        for (const { cause, error } of letters) {
          expect(error!.length).toBeLessThanOrEqual(256)
          expect(cause!.length).toBeLessThanOrEqual(2_000)
        }
        expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
      })
    ))

  test("rule 14: nothing of a payload that does not fit is in its dead letter's headers", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("discreet", 1)
        const dead = Topic.plain(newName("discreet-letters"), { partitions: 1 })
        const letters = yield* lettersOf(dead)
        yield* bus.subscribe(topic, () => Effect.void, { onExhausted: FailurePolicy.deadLetter(dead) })
        const raw = Topic.plain(topic.name, { partitions: 1 })
        const good = (payload: unknown) =>
          JSON.stringify({
            event_id: "e-1",
            aggregate_id: "order-1",
            event_type: "Step",
            event_version: 1,
            timestamp: "2026-11-21T10:00:00Z",
            payload
          })
        for (
          const body of [
            good({ _tag: "Step", sequence: "secret" }),
            good("secret"),
            "secret",
            "{\"secret",
            "[\"secret\"]"
          ]
        ) yield* bus.publish(raw, { body, key: "order-1" })
        yield* eventually("all are dead-lettered", () => letters.length === 5)
        for (const letter of letters) {
          expect(letter.error).toBe("DecodeError")
          expect(JSON.stringify({ ...letter, original: undefined })).not.toContain("secret")
        }
        expect(letters[0]!.cause).toMatch(/\["sequence"\]: expected .*, found a string/)
      })
    ))

  test("rule 9: an event of an unknown type, and a tombstone, are no garbage", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const transport = yield* Transport.Transport
        const topic = newTopic("newer", 1)
        const newer = Topic.envelope(topic.name, Schema.Union(Step, Later), { partitions: 1 })
        const log: Array<string> = []
        const subscription = yield* bus.subscribe(topic, ({ sequence }) => Effect.sync(() => log.push(`${sequence}`)), {
          ...orDrop,
          onUnknownType: FailurePolicy.skip,
          onTombstone: ({ aggregateId, value }) => Effect.sync(() => log.push(`${aggregateId} is deleted: ${value}`))
        })
        const step = (sequence: number) => ({
          aggregateId: "order-1",
          payload: new Step({ sequence, fails: 0, dies: 0, takes: 0 })
        })
        yield* bus.publish(topic, step(0))
        yield* bus.publish(newer, { aggregateId: "order-1", payload: new Later({ secret: "s" }) })
        const [tombstone] = yield* transport.publish(topic.spec, [{
          id: undefined,
          aggregateId: "order-1",
          key: null,
          value: null,
          headers: {},
          timestamp: undefined
        }], { timeout: Duration.seconds(20) })
        expect(Either.isRight(tombstone!)).toBe(true)
        yield* bus.publish(topic, step(1))
        yield* eventually("all are through", () => log.length === 3)
        expect(log).toEqual(["0", "order-1 is deleted: null", "1"])
        yield* eventually("all are counted", () => Effect.runSync(subscription.stats).handled === 3)
        expect(yield* subscription.stats).toMatchObject({
          received: 4,
          unknownType: 1,
          tombstones: 1,
          undecodable: 0,
          dropped: 0
        })
      })
    ))
}
