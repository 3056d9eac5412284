/**
 * Something that fails and is tried again without end: said once it has lasted for 10 s, and again when it is over.
 */
import type { Problem, ProblemKind } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { NatsRequestFailed } from "../NatsErrors.js"

/** In milliseconds. */
const untilSaid = 10_000

export class Lasting {
  private since: number | undefined
  private detail: string | undefined
  private kind: ProblemKind = "lease"
  private isSaid = false

  constructor(
    /** What lasts, and what it means for the user. */
    private readonly what: string,
    private readonly whenOver: string,
    /** In milliseconds. */
    private readonly after = untilSaid
  ) {}

  /** What lasts, for the state of a subscription; before it is said only where it `stops` something. */
  problem(stops: boolean): Problem | undefined {
    if (this.since === undefined || !this.isSaid && !stops) return undefined
    const message = this.detail === undefined ? this.what : `${this.what} (${this.detail})`
    return { message, since: performance.timeOrigin + this.since, kind: this.kind }
  }

  /** It is so now. To be called from time to time as long as it is. */
  now(why?: NatsRequestFailed | string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.since ??= performance.now()
      const detail = typeof why === "string" ? why : why?.message
      this.kind = typeof why === "object" && why.denied !== undefined ? "right" : "lease"
      this.detail = detail
      if (this.isSaid || performance.now() - this.since < this.after) return Effect.void
      this.isSaid = true
      const warning = Effect.logWarning(this.what)
      return detail === undefined ? warning : Effect.annotateLogs(warning, "detail", detail)
    })
  }

  /** It is not so any more, or never was. */
  readonly over: Effect.Effect<void> = Effect.suspend(() => {
    const { isSaid } = this
    this.since = undefined
    this.isSaid = false
    return isSaid ? Effect.logInfo(this.whenOver) : Effect.void
  })
}
