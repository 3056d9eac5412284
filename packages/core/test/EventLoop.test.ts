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
})
