import type { Counters } from "../counters.js"

/** @internal */
export interface GuardSettings {
  readonly from: number
  readonly percent: number
  /** In milliseconds. */
  readonly window: number
}

/** What was counted until a time. */
interface Sample {
  readonly at: number
  readonly ended: number
  readonly givenUp: number
}

/**
 * Counts the messages that are given up, and says when they are too many. It looks at the counters of the subscription only then, so nothing is
 * counted twice.
 *
 * @internal
 */
export class Guard {
  private inARow = 0
  private givenUp = 0
  private handledBefore = -1
  /** The begin of the window, which is between one and two halves of it ago. */
  private first: Sample
  private second: Sample

  constructor(
    private readonly settings: GuardSettings,
    private readonly counters: Counters,
    private readonly time: () => number
  ) {
    this.first = this.second = this.sample(time())
  }

  /** One more would be given up. The answer says why that is too much; undefined: it is not. */
  tooMany(): string | undefined {
    const { counters, settings: { from, percent, window } } = this
    const now = this.time()
    const elapsed = now - this.second.at
    // A clock that was set back begins a new window.
    if (elapsed >= window / 2 || elapsed < 0) {
      this.first = elapsed >= 0 && elapsed < window ? this.second : this.sample(now)
      this.second = this.sample(now)
    }
    if (counters.handled !== this.handledBefore) this.inARow = 0
    this.handledBefore = counters.handled
    const given = this.givenUp + 1 - this.first.givenUp
    const ended = counters.handled + this.givenUp + 1 - this.first.ended
    if (this.inARow >= from) return `${this.inARow} messages in a row were given up`
    if (given > from && given * 100 >= ended * percent) {
      return `${given - 1} of the last ${ended - 1} messages were given up`
    }
    this.inARow++
    this.givenUp++
    return undefined
  }

  /** It counts from zero. */
  reset(): void {
    this.inARow = 0
    this.first = this.second = this.sample(this.time())
  }

  private sample(at: number): Sample {
    return { at, ended: this.counters.handled + this.givenUp, givenUp: this.givenUp }
  }
}
