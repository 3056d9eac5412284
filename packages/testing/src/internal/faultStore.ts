import { type PublishError, PublishFailed, ReadFailed } from "@effect-eventbus/core/EventBusError"
import type * as Transport from "@effect-eventbus/core/Transport"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import type * as Prng from "../Prng.js"

/** @internal */
export interface Options {
  readonly topic: string
  readonly prng: Prng.Prng
  /** Per change: it is refused, with those behind it. */
  readonly failWrite: number
  /** Per call: it is written, and the answer is lost. */
  readonly loseAnswer: number
  readonly delay: () => Duration.Duration | undefined
  readonly isDead: () => boolean
  readonly isCut: () => boolean
}

type Answer = Either.Either<number, PublishError>

/**
 * A store with faults. What a process has sent before it is killed may still arrive.
 *
 * @internal
 */
export const make = (inner: Transport.Store, options: Options): Transport.Store => {
  const { delay, failWrite, isCut, isDead, loseAnswer, prng, topic } = options
  /** A connection has one request under way for each partition. */
  const turns = new Map<number, Effect.Semaphore>()
  const turnOf = (partition: number) => {
    const turn = turns.get(partition) ?? Effect.unsafeMakeSemaphore(1)
    turns.set(partition, turn)
    return turn.withPermits(1)
  }
  const failed = (outcome: PublishFailed["outcome"]): Answer =>
    Either.left(new PublishFailed({ topic, reason: "Unreachable", outcome, cause: new Error("a fault of the test") }))

  const write: Transport.Store["write"] = (partition, changes, limits) =>
    Effect.suspend(() => {
      if (isDead()) return Effect.succeed(changes.map(() => failed("unknown")))
      const wait = delay()
      const first = isCut() ? 0 : changes.findIndex(() => prng.chance(failWrite))
      const isLost = prng.chance(loseAnswer)
      const arrives = prng.chance(0.5)
      const some = first === -1 ? changes : changes.slice(0, first)
      const sent = Effect.suspend(() =>
        isDead() && !arrives ? Effect.succeed([]) : inner.write(partition, some, limits)
      )
      return (wait === undefined ? sent : Effect.zipRight(Effect.sleep(wait), sent)).pipe(
        // It is on its way, whoever waits for it.
        Effect.uninterruptible,
        Effect.map((answers) => {
          if (isDead() || isLost) return changes.map(() => failed("unknown"))
          return changes.map((_, i) => answers[i] ?? failed("not-written"))
        })
      )
    }).pipe(turnOf(partition))

  return {
    write,
    read: (partition, asked) =>
      Stream.suspend(() =>
        isDead() || isCut() || prng.chance(failWrite)
          ? Stream.fail(new ReadFailed({ topic, partition, cause: new Error("a fault of the test") }))
          : inner.read(partition, asked)
      )
  }
}
