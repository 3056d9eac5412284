import * as Effect from "effect/Effect"
import type { Problem } from "../Transport.js"
import * as Logging from "./logging.js"

/** How long something fails before it is said, in milliseconds. */
const untilSaid = 10_000

/**
 * Dead letters that can't be published and are tried again without end. The log says so once one of them has failed for 10 s, and
 * again when none fails any more. Until then it is nobody's concern.
 *
 * @internal
 */
export class Lasting {
  /** The letters that fail now, by their messages, the oldest first. */
  private readonly failing = new Map<object, { readonly since: number; readonly begunAt: bigint }>()
  private issue = ""
  private isSaid = false

  /** A try has failed. */
  failed(letter: object, issue: string): Effect.Effect<void> {
    return Effect.clockWith((clock) => {
      this.issue = issue
      const now = clock.unsafeCurrentTimeNanos()
      let entry = this.failing.get(letter)
      if (entry === undefined) {
        this.failing.set(letter, entry = { since: clock.unsafeCurrentTimeMillis(), begunAt: now })
      }
      if (this.isSaid || now - entry.begunAt < BigInt(untilSaid) * 1_000_000n) return Effect.void
      this.isSaid = true
      return Logging.warning(this.message)
    })
  }

  /** A letter is published. */
  worked(letter: object): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { isSaid } = this
      this.forget(letter)
      return isSaid && this.failing.size === 0 ? Logging.warning("Dead letters are published again") : Effect.void
    })
  }

  /** Nobody tries it any more. */
  forget(letter: object): void {
    this.failing.delete(letter)
    if (this.failing.size === 0) this.isSaid = false
  }

  /** What fails now, for the status of the subscription. */
  get problems(): ReadonlyArray<Problem> {
    for (const { since } of this.failing.values()) return [{ message: this.message, since }]
    return []
  }

  private get message(): string {
    return `Dead letters can't be published, are tried again, and their aggregates wait: ${this.issue}`
  }
}
