/**
 * How a member stays in its group: heartbeats, on a link of their own, and the fence:
 * where none is answered for so long that others may get the partitions soon, they
 * are given up here first.
 */
import * as Effect from "effect/Effect"
import type { Settings } from "../KafkaConfig.js"
import type { Coordinator, Refused } from "./Coordinator.js"
import type { KafkaFailure } from "./Failure.js"
import type { GroupDriver } from "./GroupDriver.js"
import type { Lasting } from "./Lasting.js"

/** What staying in the group needs. */
export interface Staying {
  readonly driver: GroupDriver
  readonly settings: Pick<Settings, "sessionTimeout" | "rebalanceTimeout" | "heartbeatInterval" | "requestTimeout">
  readonly lasting: Lasting
  /** Without a heartbeat for so long, the partitions are given up before the group gives them to others. */
  readonly fenceAfterMs: number
  /** The partitions it has. */
  readonly owned: () => ReadonlyArray<number>
  /** One of them starts nothing any more, because there was no heartbeat for too long: it has to be given up. */
  readonly isRefusing: () => boolean
  /** The group is about to give the partitions to others, in so many milliseconds at the earliest; at 0 it may have done so. */
  readonly lost: (why: string, leftMs: number) => Effect.Effect<void>
}

export interface HeartbeatsOptions extends Staying {
  readonly coordinator: Coordinator
  readonly now: () => number
  readonly withinMs: number
  /** It is over for good. */
  readonly fail: (failure: KafkaFailure) => Effect.Effect<void>
}

export interface Heartbeats {
  readonly run: Effect.Effect<never>
  /** Whether the partitions may be others' soon, or are. */
  readonly isSilent: () => boolean
}

/** How often it is looked at at least whether the session is about to end; when it is due, at once. */
const FENCE_TICK_MS = 250
/** The same while all is well: a timer that is due when the process wakes up comes at once. */
const REST_TICK_MS = 5_000
/** All members of a process wake up together, so often at most: hundreds of timers by themselves cost far more than what they do. */
const GRID_MS = 250
/** A heartbeat that failed is sent again so soon. */
const BACKOFF_MS = 100

export const make = (options: HeartbeatsOptions): Heartbeats => {
  const { coordinator, driver, fail, fenceAfterMs, isRefusing, lasting, lost, now, owned, settings, withinMs } = options
  const { state } = coordinator

  /** Leaders of partitions that can't be reached are waited for as long as the coordinator counts on it; a mistake of ours is not. */
  const isBeginning = () => !state().stood && coordinator.lastFailure()?.isOurs !== true

  const beat: Effect.Effect<number> = Effect.suspend(() => {
    const { counted, memberId, phase } = state()
    // Before the first assignment it asks whether the coordinator is there, which says that it does not know the generation.
    if (counted < 0 && phase._tag !== "Joining") return Effect.succeed(settings.heartbeatInterval)
    const ticket = coordinator.ticket("Heartbeat")
    return coordinator.ask("Heartbeat", (node) => driver.heartbeat(node, { memberId, generation: counted }, withinMs))
      .pipe(
        Effect.matchEffect({
          onSuccess: () =>
            Effect.sync(() => {
              coordinator.dispatch({ _tag: "Beaten", ticket })
              if (coordinator.isJoining() || isBeginning()) coordinator.progressed()
              lasting.worked("heartbeat")
              return settings.heartbeatInterval
            }),
          onFailure: (refused) => afterBeat(refused, counted)
        })
      )
  })

  const afterBeat = ({ failure, next }: Refused, counted: number): Effect.Effect<number> => {
    const { isUnreachable } = failure
    const isProbe = counted < 0
    if (next === "retry" && !isProbe) lasting.failed("heartbeat", meaningOf(failure), failure)
    const then = next === "lose"
      ? lost(failure.type, 0)
      : next === "fail"
      ? fail(failure)
      // A join waits long for its answer, and would not notice that its broker is gone.
      : coordinator.isJoining() && isUnreachable
      ? driver.abandonJoin
      : Effect.void
    return Effect.logDebug("A heartbeat failed", failure.message).pipe(
      Effect.when(() => !isProbe),
      Effect.zipRight(then),
      Effect.as(
        (next === "retry" && !isProbe) || isOfBefore(counted)
          ? Math.min(BACKOFF_MS, settings.heartbeatInterval)
          : settings.heartbeatInterval
      )
    )
  }

  /** The coordinator does not know the generation that was joined: whether it knows the one before can't wait. */
  const isOfBefore = (refused: number): boolean => {
    const { counted, generation } = state()
    return coordinator.isJoining() && counted === generation && refused > generation
  }

  /** After so long, or a little sooner, when others wake up, too. */
  const together = (millis: number) =>
    Effect.suspend(() => {
      const at = now()
      return Effect.sleep(millis - (at + millis) % Math.min(GRID_MS, settings.heartbeatInterval / 8))
    })

  const isSilent = () => now() - state().contact > fenceAfterMs

  const heartbeats = Effect.suspend(() => {
    let pause = settings.heartbeatInterval
    return Effect.forever(Effect.zipRight(
      Effect.suspend(() => pause < settings.heartbeatInterval ? Effect.sleep(pause) : together(pause)),
      Effect.map(beat, (next) => {
        pause = next
      })
    ))
  })

  /** Also when the process itself was asleep: the clock says so. */
  const fence = Effect.forever(
    Effect.suspend(() => {
      const left = state().contact + fenceAfterMs - now()
      return left < 0
        ? Effect.sleep(FENCE_TICK_MS)
        : left < REST_TICK_MS
        ? Effect.sleep(left + 1)
        : together(REST_TICK_MS)
    }).pipe(
      Effect.zipRight(Effect.suspend(() => {
        if (owned().length === 0 || !(isSilent() || isRefusing())) return Effect.void
        coordinator.dispatch({ _tag: "Silent" })
        const left = Math.max(0, state().contact + settings.sessionTimeout - now())
        // Beside it, which has to look after what is begun meanwhile.
        return Effect.fork(lost("no heartbeat was answered for too long", left))
      }))
    )
  )

  return {
    isSilent,
    run: Effect.zipRight(
      Effect.all([heartbeats, fence], { concurrency: "unbounded", discard: true }),
      Effect.never
    )
  }
}

/** What it means for the user that the coordinator does not answer, or refuses. */
export const meaningOf = (failure: KafkaFailure): string =>
  failure.isUnreachable
    ? "The coordinator of the group does not answer; if that goes on for too long, the partitions are given to other members"
    : `The coordinator of the group refuses the member (${failure.type}); if that goes on for too long, the partitions are given to other members`
