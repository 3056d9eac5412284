/**
 * What a removal leaves: a message without a value, which is purged when it is old. As long as it is there, an attempt to write an
 * older value that arrives late is refused, because it does not replace what it was made for.
 */
import * as Effect from "effect/Effect"
import type { NatsRequestFailed } from "../NatsErrors.js"

/** For how long they stay, in milliseconds. Servers drop connections and routes that are silent sooner, and what is in them. */
export const age = 15 * 60_000

/** More are not remembered: the next reader of their partition finds them. */
const most = 100_000

interface Mark {
  readonly revision: number
  readonly until: number
}

export class StoreMarks {
  private readonly marks = new Map<string, Mark>()

  constructor(
    private readonly now: () => number,
    /** Removes what a name has, up to a revision. */
    private readonly purge: (name: string, revision: number) => Effect.Effect<void, NatsRequestFailed>
  ) {}

  get size(): number {
    return this.marks.size
  }

  /** A key was removed so many milliseconds ago. */
  removed(name: string, revision: number, ago = 0): void {
    const known = this.marks.get(name)
    if (known !== undefined && known.revision >= revision) return
    if (known === undefined && this.marks.size >= most) return
    this.marks.delete(name)
    this.marks.set(name, { revision, until: this.now() + age - Math.min(age, Math.max(0, ago)) })
  }

  /** A key has a value again. */
  written(name: string): void {
    this.marks.delete(name)
  }

  /** Purges those whose time is over. One that fails is tried again the next time. */
  readonly sweep: Effect.Effect<void> = Effect.suspend(() => {
    const now = this.now()
    const due = Array.from(this.marks).filter(([, { until }]) => until <= now)
    return Effect.forEach(due, ([name, mark]) =>
      Effect.tap(this.purge(name, mark.revision), () => {
        if (this.marks.get(name) === mark) this.marks.delete(name)
      }), { discard: true })
  }).pipe(
    Effect.catchAll((failure) =>
      Effect.logWarning("Removed keys of a store could not be purged; it is tried again").pipe(
        Effect.annotateLogs("detail", failure.message)
      )
    )
  )

  /** As long as it runs. */
  readonly sweeping: Effect.Effect<never> = Effect.suspend(() => this.sweep).pipe(
    Effect.delay("30 seconds"),
    Effect.forever
  )
}
