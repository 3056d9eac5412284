import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Observer from "../Observer.js"
import * as Logging from "./logging.js"
import type { Fullness, Slot } from "./slot.js"

/** How long no second warning follows. */
const quiet = 30_000

interface Entry {
  readonly since: number
  readonly after: Duration.Duration
  /** The observer was told. */
  isTold: boolean
}

/**
 * The mailboxes that messages wait for, of strategies that want to be told of them. A mailbox counts from the first refused message until there
 * is room that nobody waits for.
 *
 * @internal
 */
export class FullMailboxes {
  private readonly full = new Map<Slot, Entry>()
  private readonly isAny = Effect.unsafeMakeLatch(false)
  private saidAt = -Infinity

  constructor(private readonly observer: Observer.Service, private readonly now: () => number) {}

  /** What a strategy's slots tell. */
  after(strategy: string, after: Duration.DurationInput): Fullness {
    const duration = Duration.decode(after)
    return {
      isFull: (slot) => {
        if (this.full.has(slot)) return
        this.full.set(slot, { since: this.now(), after: duration, isTold: false })
        this.isAny.unsafeOpen()
      },
      hasRoom: (slot) => {
        const entry = this.full.get(slot)
        if (entry === undefined) return
        this.full.delete(slot)
        if (entry.isTold) this.tell(slot, strategy, false)
      },
      tell: (slot) => this.tell(slot, strategy, true)
    }
  }

  /** Reports mailboxes that have been full for long. */
  readonly run: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    const now = this.now()
    let next: number | undefined
    let longest: Slot | undefined
    for (const [slot, entry] of this.full) {
      if (entry.isTold) continue
      const due = entry.since + Duration.toMillis(entry.after)
      if (due > now) next = Math.min(next ?? due, due)
      else {
        entry.isTold = true
        slot.fullness?.tell(slot)
        longest ??= slot
      }
    }
    const said = longest === undefined ? Effect.void : this.say(longest, now)
    if (next === undefined) {
      this.isAny.unsafeClose()
      return Effect.zipRight(said, this.isAny.await)
    }
    return Effect.zipRight(said, Effect.sleep(Math.max(1, next - now)))
  }))

  private say(slot: Slot, now: number): Effect.Effect<void> {
    if (now - this.saidAt < quiet) return Effect.void
    this.saidAt = now
    const entry = this.full.get(slot)
    if (entry === undefined) return Effect.void
    const others = Array.from(this.full.values()).filter(({ isTold }) => isTold).length - 1
    return Logging.warning(
      `${slot.name}: its mailbox has been full for ${Duration.format(entry.after)}, and messages wait for room in it` +
        `${others > 0 ? `; the same goes for ${others} others` : ""}. ` +
        `A slow, retried or held message of an aggregate keeps all aggregates of its slot waiting. This is said every 30 seconds at most.`
    )
  }

  private tell(slot: Slot, strategy: string, isReached: boolean): void {
    this.observer.event?.({
      _tag: "Bound",
      bound: "mailbox",
      subscription: undefined,
      strategy,
      slot: slot.name,
      isReached
    })
  }
}
