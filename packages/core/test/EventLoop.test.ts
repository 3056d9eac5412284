import { EventBus, MemoryTransport, Topic } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { eventually } from "./Eventually.js"

describe("the event loop", () => {
  it.scopedLive("has its turn while 60,000 instant handlers run", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const topic = Topic.plain("instant", { partitions: 4 })
      const count = 60_000
      for (let i = 0; i < count; i += 1_000) {
        yield* bus.publishAll(
          topic,
          Array.from({ length: 1_000 }, (_, n) => ({ key: `key-${(i + n) % 500}`, body: "x" }))
        )
      }
      let handled = 0
      const gaps: Array<number> = []
      let last = performance.now()
      const since = last
      let isOver = false
      const turn = (): void => {
        const now = performance.now()
        gaps.push(now - last)
        last = now
        if (!isOver) setImmediate(turn)
      }
      setImmediate(turn)
      yield* bus.subscribe(topic, () => Effect.sync(() => handled++), {
        semantics: "at-least-once",
        onExhausted: { _tag: "Drop" }
      })
      yield* eventually("all are handled", () => handled === count)
      isOver = true
      const total = performance.now() - since
      gaps.sort((a, b) => b - a)
      // One turn in about 10 ms; a busy machine makes some of them much longer.
      expect(gaps.length).toBeGreaterThan(total / 60)
      expect(gaps[Math.floor(gaps.length / 10)]).toBeLessThan(60)
    }).pipe(Effect.provide(Layer.provide(EventBus.layer, MemoryTransport.layer()))))

  for (const isOne of [true, false]) {
    it.scopedLive(
      `has its turn after each handler that takes long, of ${
        isOne ? "one aggregate" : "many aggregates"
      }, also when it was instant before`,
      () =>
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = Topic.plain("slow", { partitions: 1 })
          const count = 24
          let turns = 0
          let isOver = false
          const turn = (): void => {
            turns++
            if (!isOver) setImmediate(turn)
          }
          setImmediate(turn)
          /** At each start of a slow handler: how often the loop had its turn before. */
          const starts: Array<number> = []
          let instant = 0
          yield* bus.subscribe(topic, (body) =>
            Effect.sync(() => {
              if (body[0] === 0) {
                instant++
                return
              }
              starts.push(turns)
              const end = performance.now() + 20
              while (performance.now() < end);
            }), { semantics: "at-least-once", onExhausted: { _tag: "Drop" } })
          const messages = (kind: number, length: number) =>
            Array.from({ length }, (_, i) => ({ key: isOne ? "one" : `key-${i}`, body: new Uint8Array([kind]) }))
          yield* bus.publishAll(topic, messages(0, 500))
          yield* eventually("the instant ones are handled", () => instant === 500)
          // One by one, as they come from several publishers.
          for (const message of messages(1, count)) Effect.runFork(bus.publish(topic, message))
          yield* eventually("all are handled", () => starts.length === count)
          isOver = true
          const most = Math.max(...starts.map((turn) => starts.filter((other) => other === turn).length))
          expect(most).toBeLessThanOrEqual(2)
          // Once it is known that they take long.
          const late = starts.slice(4)
          expect(new Set(late).size).toBe(late.length)
        }).pipe(Effect.provide(Layer.provide(EventBus.layer, MemoryTransport.layer())))
    )
  }
})
