/**
 * What the take-overs of a subscription hold back while they get back what is outstanding: so many bytes over all its partitions. Beyond
 * that one of them goes on, and the others wait for their turn.
 */
import * as Effect from "effect/Effect"

/** Contract rule 6: message bytes of one consumer. */
const defaultLimit = 64 * 1_048_576

/** How often it is looked at whether there is room, in milliseconds. */
const look = 50

export class HeldBack {
  /** Those that wait, in the order in which they came; the first of them goes on without room. */
  private readonly waiting = new Set<object>()

  constructor(
    /** What is held back now, in bytes. */
    private readonly bytes: () => number,
    private readonly limit = defaultLimit
  ) {}

  /** Waits until there is room, or it is `who`'s turn. */
  room(who: object): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.bytes() < this.limit) return Effect.void
      this.waiting.add(who)
      const [first] = this.waiting
      return first === who ? Effect.void : Effect.delay(this.room(who), look)
    })
  }

  /** Its take-over has ended. */
  done(who: object): void {
    this.waiting.delete(who)
  }
}
