import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Crew } from "../src/internal/crew.js"
import { Waiter } from "../src/internal/quota.js"
import type { Slot } from "../src/internal/slot.js"

/** Actors, as far as their number goes. */
class Actors {
  readonly busy = new Set<Slot>()
  readonly idle: Array<Slot> = []
  readonly ended: Array<Slot> = []
  readonly crew: Crew
  private serial = 0

  constructor(readonly most: number) {
    this.crew = new Crew(most, () => this.live, [])
  }

  get live(): number {
    return this.busy.size + this.idle.length
  }

  begin(): void {
    const slot = { idleSince: this.serial++, endIfIdle: () => this.end(slot) } as unknown as Slot
    this.busy.add(slot)
    this.crew.becameBusy(slot)
  }

  end(slot: Slot): void {
    const at = this.idle.indexOf(slot)
    if (at === -1) return
    this.idle.splice(at, 1)
    this.ended.push(slot)
    this.crew.ended(slot)
  }

  rest(): void {
    const [slot] = this.busy
    if (slot === undefined) return
    this.busy.delete(slot)
    this.idle.push(slot)
    this.crew.becameIdle(slot)
  }

  resume(): void {
    const slot = this.idle.shift()
    if (slot === undefined) return
    this.busy.add(slot)
    this.crew.becameBusy(slot)
  }
}

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ _tag: fc.constant("ask" as const), uses: fc.boolean(), isLate: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("rest" as const) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("resume" as const) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("cancel" as const), which: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("time" as const) }) }
)

describe("the actors of a subscription in recovery", () => {
  it("are never more than the bound; idle ones make room, the oldest first; who waits first is served first, and nobody for ever", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 80 }), async (most, steps) => {
        const actors = new Actors(most)
        const { crew } = actors
        const waiting: Array<Waiter> = []
        /** What those do that were woken, and whose transports are not as quick as others. */
        const late: Array<() => void> = []
        const rest = async () => {
          do {
            for (const take of late.splice(0)) take()
            await Promise.resolve()
          } while (late.length > 0)
        }
        const use = (uses: boolean) => {
          // Some are admitted, and find that the bus has no place for them.
          if (uses) actors.begin()
          else crew.unused()
        }
        for (const one of steps) {
          if (one._tag === "rest") actors.rest()
          else if (one._tag === "resume") actors.resume()
          else if (one._tag === "time") crew.endIdleSince(Infinity)
          else if (one._tag === "cancel") {
            const [waiter] = waiting.splice(one.which % Math.max(1, waiting.length), 1)
            if (waiter !== undefined) crew.cancel(waiter)
          } else {
            let isAsking = true
            const waiter: Waiter = new Waiter(() => {
              // As a lane: within its own offer it is not woken.
              if (isAsking) return
              expect(waiting[0]).toBe(waiter)
              waiting.shift()
              const take = () => {
                expect(crew.admits(waiter)).toBe(true)
                use(one.uses)
              }
              if (one.isLate) late.push(take)
              else take()
            })
            const oldest = actors.idle[0]
            const { length } = actors.ended
            const isAdmitted = crew.admits(waiter)
            isAsking = false
            if (actors.ended.length > length) expect(actors.ended[length]).toBe(oldest)
            if (isAdmitted) use(one.uses)
            else waiting.push(waiter)
          }
          expect(actors.live).toBeLessThanOrEqual(most)
          await rest()
          // Whoever waits does so because all are busy.
          if (waiting.length > 0) expect(actors.busy.size).toBe(most)
        }
        for (let i = 0; i < 200 && waiting.length > 0; i++) {
          actors.rest()
          await rest()
        }
        expect(waiting).toEqual([])
      }),
      { numRuns: 300 }
    ))
})
