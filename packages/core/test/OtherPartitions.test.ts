import { EventBus, Observer, Strategy, Topic } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { dropping, Placed, provideBus, recorder } from "./Orders.js"

const topic = Topic.envelope("spread", Placed, { partitions: 4 })
const raw = Topic.plain("spread", { partitions: 4 })

const body = (aggregate: string, n: number) =>
  JSON.stringify({
    event_id: `${aggregate}-${n}`,
    aggregate_id: aggregate,
    event_type: "Placed",
    event_version: 1,
    timestamp: "2026-01-01T00:00:00Z",
    payload: { _tag: "Placed", n }
  })

/** Other publishers use another partitioner: here the key is another one. */
const publish = (aggregate: string, n: number, key: string) =>
  Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(raw, { key, body: body(aggregate, n) }))

const watched = () => {
  const lines: Array<string> = []
  const events: Array<Observer.Event> = []
  return {
    lines,
    events,
    layer: Layer.mergeAll(
      Observer.layer({
        event: (event) => {
          if (event._tag === "OtherPartition") events.push(event)
        }
      }),
      Logger.replace(
        Logger.defaultLogger,
        Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel.label} ${String(message)}`))
      )
    )
  }
}

describe("an aggregate that comes from two partitions", () => {
  it.scoped("is counted each time, told to the observer, and said once, with few lines for many", () => {
    const { events, layer, lines } = watched()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder()
      const { stats } = yield* bus.subscribe(topic, handler, dropping)
      // Keys that go to different partitions.
      const keys = new Map<number, string>()
      for (let i = 0; keys.size < 2; i++) {
        const { partition } = yield* publish("probe-only-once", i, `key-${i}`)
        keys.set(partition, `key-${i}`)
      }
      const [one, other] = Array.from(keys.values())
      const before = (yield* Effect.zipRight(settle, stats)).otherPartition
      expect(before).toBe(1)
      for (let a = 0; a < 20; a++) {
        for (let n = 0; n < 4; n++) {
          const count = ended.length
          yield* publish(`a-${a}`, n, n % 2 === 0 ? one! : other!)
          yield* eventually("it is handled", () => ended.length === count + 1)
        }
      }
      for (let n = 0; n < 4; n++) yield* bus.publish(topic, { aggregateId: "in-order", payload: new Placed({ n }) })
      yield* settle
      expect((yield* stats).otherPartition).toBe(1 + 20 * 3)
      expect(events.length).toBe(61)
      expect(events[1]).toMatchObject({ aggregate: "a-0", topic: "spread", subscription: "spread/group" })
      const warnings = () => lines.filter((line) => /the order of its messages is not known/i.test(line))
      expect(warnings().length).toBe(1)
      // Also if nothing more comes.
      yield* TestClock.adjust("1 minute")
      yield* eventually("the rest is said", () => warnings().length === 2)
      yield* publish("a-0", 9, one!)
      expect(warnings()[1]).toContain("the same goes for 19 other aggregates")
      yield* TestClock.adjust("1 minute")
      yield* publish("a-0", 10, other!)
      yield* settle
      expect(warnings().length).toBe(2)
    }).pipe(provideBus({}, { partitions: 4 }), Effect.provide(layer))
  })

  it.scoped("is said at the end of the subscription where that comes before the next line", () => {
    const { layer, lines } = watched()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler } = recorder()
      const subscription = yield* bus.subscribe(topic, handler, dropping)
      const { stats } = subscription
      for (let i = 0; (yield* stats).otherPartition === 0; i++) {
        yield* Effect.zipRight(publish("first", i, `key-${i}`), settle)
      }
      for (let i = 0; (yield* stats).otherPartition < 2; i++) {
        yield* Effect.zipRight(publish("second", i, `key-${i}`), settle)
      }
      const named = () => lines.filter((line) => /second came from partition/.test(line)).length
      expect(named()).toBe(0)
      yield* subscription.close
      expect(named()).toBe(1)
    }).pipe(provideBus({}, { partitions: 4 }), Effect.provide(layer))
  })

  it.scoped("is noticed in a pool while its messages are there; messages without a key are nobody's", () => {
    const { events, layer } = watched()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler } = recorder(() => Effect.never)
      const { stats } = yield* bus.subscribe(topic, handler, dropping)
      for (let i = 0; i < 8; i++) yield* publish("a", i, `key-${i}`)
      yield* settle
      expect((yield* stats).otherPartition).toBeGreaterThan(0)
      const count = events.length
      yield* bus.subscribe(Topic.plain("plain", { partitions: 4 }), () => Effect.void)
      for (let i = 0; i < 20; i++) yield* bus.publish(Topic.plain("plain", { partitions: 4 }), { body: `${i}` })
      yield* settle
      expect(events.length).toBe(count)
    }).pipe(
      provideBus({ closeDeadline: "0 millis" }, { partitions: 4 }),
      Effect.provide(Layer.merge(layer, Strategy.layer(Strategy.pool({ name: "pool", size: 2 }))))
    )
  })
})
