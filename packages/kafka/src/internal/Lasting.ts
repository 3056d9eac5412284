/**
 * What fails and is tried again without end: a commit, a fetch, a right that is
 * missing. Once it has lasted for 10 s the log says so, with what it means for the
 * user, and again when it is over. Until then it is nobody's concern.
 */
import type { Problem, ProblemKind } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import type * as Scope from "effect/Scope"
import { isDenied } from "./Failure.js"
import { monotonic } from "./monotonic.js"

export interface Lasting {
  /**
   * Something fails, again perhaps. Synchronous and cheap. `what` tells it from other things that can fail; `meaning` says what
   * fails and what follows for the user, without payloads and secrets, and may change while it lasts.
   */
  readonly failed: (what: string, meaning: string, cause: unknown) => void
  /** It works, or nobody tries it any more. Synchronous and cheap, also where it had not failed. */
  readonly worked: (what: string) => void
  /** For how many milliseconds it has been failing; 0 where it works. */
  readonly lastedMs: (what: string) => number
  /** What is failing now. */
  readonly problems: () => ReadonlyArray<Problem>
}

/** How long something fails before it is said. */
export const SAID_AFTER_MS = 10_000

interface Entry {
  readonly begunAt: number
  readonly since: number
  meaning: string
  cause: unknown
  isSaid: boolean
}

/** The logs have the annotations of the fiber that makes this. What has not been said ends with the scope. */
export const make: Effect.Effect<Lasting, never, Scope.Scope> = Effect.gen(function*() {
  const clock = yield* Effect.clock
  const now = monotonic(clock)
  const entries = new Map<string, Entry>()
  const waiting = yield* FiberMap.make<string>()
  const run = yield* FiberMap.runtime(waiting)<never>()
  const fork = yield* Effect.runtime<never>().pipe(
    Effect.map((runtime) => (effect: Effect.Effect<void>) => Effect.runSync(Effect.provide(effect, runtime)))
  )

  const say = (what: string) =>
    Effect.delay(
      Effect.suspend(() => {
        const entry = entries.get(what)
        if (entry === undefined) return Effect.void
        entry.isSaid = true
        return Effect.logWarning(`${entry.meaning}; it has been so for ${secondsOf(now() - entry.begunAt)}`).pipe(
          Effect.annotateLogs({ what, cause: messageOf(entry.cause) })
        )
      }),
      SAID_AFTER_MS
    )

  return {
    failed: (what, meaning, cause) => {
      const entry = entries.get(what)
      if (entry !== undefined) {
        entry.meaning = meaning
        entry.cause = cause
        return
      }
      entries.set(what, { begunAt: now(), since: clock.unsafeCurrentTimeMillis(), meaning, cause, isSaid: false })
      run(what, say(what))
    },
    worked: (what) => {
      const entry = entries.get(what)
      if (entry === undefined) return
      entries.delete(what)
      if (!entry.isSaid) {
        run(what, Effect.void)
        return
      }
      fork(
        Effect.logWarning(`It is over, after ${secondsOf(now() - entry.begunAt)}: ${entry.meaning}`).pipe(
          Effect.annotateLogs({ what })
        )
      )
    },
    lastedMs: (what) => {
      const entry = entries.get(what)
      return entry === undefined ? 0 : now() - entry.begunAt
    },
    problems: () =>
      Array.from(
        entries,
        ([what, { cause, meaning, since }]) => ({ message: meaning, since, kind: kindOf(what, cause) })
      )
  }
})

const kinds: Readonly<Record<string, ProblemKind>> = {
  commit: "commit",
  heartbeat: "group",
  group: "group",
  fetch: "fetch"
}

/** A right that is missing is the cause of whatever fails. The first word says what that is. */
const kindOf = (what: string, cause: unknown): ProblemKind =>
  isDenied(cause) ? "right" : kinds[what.split(" ")[0]!] ?? "fetch"

const secondsOf = (millis: number): string => `${Math.round(millis / 1_000)} s`

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)
