import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HeldBack } from "../src/internal/HeldBack.js"
import * as T from "./fixture.js"

describe("What take-overs hold back", () => {
  it("stays within the limit and one partition's: beyond it they go on one after the other, in the order in which they came", () =>
    T.run(Effect.gen(function*() {
      const held = new Map<object, number>()
      const limit = 1_000
      const heldBack = new HeldBack(() => [...held.values()].reduce((sum, bytes) => sum + bytes, 0), limit)
      const ended: Array<number> = []
      let most = 0
      /** Gets back 600 bytes in six requests, and hands them over at its end. */
      const takeOver = (who: { readonly n: number }) =>
        Effect.gen(function*() {
          for (let request = 0; request < 6; request++) {
            yield* heldBack.room(who)
            held.set(who, (held.get(who) ?? 0) + 100)
            most = Math.max(most, [...held.values()].reduce((sum, bytes) => sum + bytes, 0))
            yield* Effect.sleep(5)
          }
        }).pipe(Effect.ensuring(Effect.sync(() => {
          held.delete(who)
          heldBack.done(who)
          ended.push(who.n)
        })))
      const all = yield* Effect.forkAll(T.range(0, 20).map((n) => takeOver({ n })))
      yield* Fiber.join(all)
      assert.lengthOf(ended, 20)
      // Each may have begun one request when there was still room.
      assert.isAtMost(most, limit + 600)
    })))
})
