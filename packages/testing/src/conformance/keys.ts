/**
 * Rule 1 for messages that have no valid aggregate id: a key of any bytes orders them.
 *
 * @since 0.1.0
 */
import { EventBus, Topic } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, orDrop, type Subject, test } from "./Bench.js"

const texts = ["user@example.com", "order 1", "bestellung-ü", " padded ", "x".repeat(300)]
const binary = [Uint8Array.of(0, 255, 1, 254, 13, 10, 128, 0), Uint8Array.of(0, 255, 1, 254, 13, 10, 128, 1)]
const keys: ReadonlyArray<Uint8Array | string> = [...texts, ...binary]
const rounds = 6

/**
 * @since 0.1.0
 * @category rules
 */
export const keysOrder = (subject: Subject): void => {
  for (const partitions of [1, 3]) {
    test(`rule 1: a key orders its messages whatever its bytes are, with ${partitions} partition(s)`, () =>
      inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = Topic.plain(newName("keys"), { partitions })
          const seen = new Map<string, Array<number>>()
          const found = new Set<string>()
          const running = new Set<string>()
          let handled = 0
          let overlaps = 0
          let atOnce = 0
          yield* bus.subscribe(topic, (body, { aggregateId, key }) =>
            Effect.gen(function*() {
              const [which, round] = new TextDecoder().decode(body).split(":") as [string, string]
              found.add(`${which} ${aggregateId} ${Buffer.from(key!).toString("hex")}`)
              if (running.has(which)) overlaps++
              running.add(which)
              atOnce = Math.max(atOnce, running.size)
              seen.set(which, [...seen.get(which) ?? [], Number(round)])
              // The first message of each key takes the longest.
              yield* Effect.sleep((rounds - Number(round)) * 5)
              running.delete(which)
              handled++
            }), { semantics: "at-least-once", ...orDrop })
          for (let round = 0; round < rounds; round++) {
            yield* bus.publishAll(topic, keys.map((key, which) => ({ body: `${which}:${round}`, key })))
          }
          yield* eventually("all are handled", () => handled === rounds * keys.length)
          const bytes = keys.map((key) => Buffer.from(key).toString("hex"))
          expect(found).toEqual(new Set(bytes.map((key, which) => `${which} undefined ${key}`)))
          for (const order of seen.values()) expect(order).toEqual(Array.from({ length: rounds }, (_, i) => i))
          expect(overlaps).toBe(0)
          // Different keys don't wait for each other.
          expect(atOnce).toBeGreaterThan(1)
        })
      ))
  }
}
