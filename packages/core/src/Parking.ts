/**
 * Parked aggregates of a subscription: which they are, why, and how somebody releases or discards their letters. `docs/parking.md` shows it.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { InvalidConfiguration, Position, PublishError, ReadFailed } from "./EventBusError.js"
import type { Headers } from "./Headers.js"

/**
 * Who does something by hand, and why. It is logged, told to observers, and kept with a letter that fails again.
 *
 * @since 0.1.0
 * @category models
 */
export interface By {
  readonly who: string
  readonly why: string
}

/**
 * A parked aggregate of a partition that this instance owns.
 *
 * @since 0.1.0
 * @category models
 */
export interface ParkedAggregate {
  /** Its id, or what stands for its key. */
  readonly aggregate: string
  readonly partition: number
  readonly letters: number
  /** What its letters take in the store. */
  readonly bytes: number
  /** The offset of its first and last letter. Undefined: none is confirmed yet. */
  readonly firstOffset: number | undefined
  readonly lastOffset: number | undefined
  /** When it was parked, and when its newest letter was written, in milliseconds since the epoch. */
  readonly since: number
  readonly last: number
  /** The fingerprint of the failure: the error's tag and the first frame of the user's code. Undefined: it was parked by hand, or its first letters are released. */
  readonly cause: string | undefined
  /** What that failure said, without payload. */
  readonly message: string | undefined
  /** `full`: it has as many letters as it may, and its messages wait. `unwritable`: the store refuses a letter, and its messages wait. */
  readonly state: "parked" | "releasing" | "full" | "unwritable"
}

/**
 * Some of the parked aggregates, in the order of their names.
 *
 * @since 0.1.0
 * @category models
 */
export interface ParkedPage {
  readonly aggregates: ReadonlyArray<ParkedAggregate>
  /** To be given as `after`. Undefined: there are no more. */
  readonly next: string | undefined
}

/**
 * The aggregates that are parked for the same cause.
 *
 * @since 0.1.0
 * @category models
 */
export interface CauseGroup {
  readonly cause: string
  /** What the newest failure said, without payload. */
  readonly message: string | undefined
  readonly aggregates: number
  readonly letters: number
  /** When the first of them was parked, and when the newest letter was written, in milliseconds since the epoch. */
  readonly first: number
  readonly last: number
}

/**
 * A parked message.
 *
 * @since 0.1.0
 * @category models
 */
export interface Letter {
  readonly position: Position
  /** Of the message, and when it was parked, in milliseconds since the epoch. */
  readonly timestamp: number
  readonly parkedAt: number
  /** Why it failed, each time: the first one and the newest others, 10 at most. Empty: it came behind one that failed. */
  readonly failures: ReadonlyArray<{
    readonly at: number
    readonly error: string
    readonly frame?: string | undefined
    readonly cause: string
    readonly attempts: number
    readonly restarts: number
    /** Who had released it before. */
    readonly released?: By | undefined
  }>
  /** The message itself. Undefined: it was not asked for. */
  readonly message:
    | { readonly key: Uint8Array | null; readonly value: Uint8Array | null; readonly headers: Headers }
    | undefined
}

/**
 * Which aggregates a command is about: one, those with a cause (a fingerprint of `causes`), those that a function picks, or all.
 *
 * @since 0.1.0
 * @category models
 */
export type Target =
  | { readonly aggregate: string }
  | { readonly cause: string }
  | { readonly where: (parked: ParkedAggregate) => boolean }
  | "all"

/**
 * How letters are released.
 *
 * @since 0.1.0
 * @category options
 */
export interface ReleaseOptions extends By {
  /** How many letters are begun in a second, of each partition. Default: no limit. */
  readonly rate?: number | undefined
  /** Only says what would be released. Default: false. */
  readonly dryRun?: boolean | undefined
}

/**
 * How letters are discarded.
 *
 * @since 0.1.0
 * @category options
 */
export interface DiscardOptions extends By {
  /** Only the letter of this offset, of one aggregate. Default: all letters. */
  readonly offset?: number | undefined
  /** Only says what would be discarded. Default: false. */
  readonly dryRun?: boolean | undefined
}

/**
 * What a command is about.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  readonly aggregates: number
  readonly letters: number
  /** The first 1,000 of them, in the order of their names. */
  readonly listed: ReadonlyArray<ParkedAggregate>
}

/**
 * How a command can fail. `PublishError`: the store did not confirm it.
 *
 * @since 0.1.0
 * @category errors
 */
export type CommandError = InvalidConfiguration | PublishError

/**
 * What somebody can do with the parked aggregates of a subscription, as far as this instance owns their partitions.
 *
 * @since 0.1.0
 * @category models
 */
export interface Parking {
  /**
   * Parks an aggregate: its message in hand and those that wait become letters, and all that follow. A handler that runs is interrupted. Without a
   * message here it is parked with the next one that comes to this instance.
   */
  readonly park: (aggregate: string, by: By) => Effect.Effect<void, InvalidConfiguration>
  /**
   * Handles letters, in order for each aggregate, before newer messages. An aggregate stops at its first failure, and is parked again. It answers when the store has
   * the command, which outlives this instance; what is released while it runs is seen by `parked` and by observers.
   */
  readonly release: (target: Target, options: ReleaseOptions) => Effect.Effect<Report, CommandError>
  /** Takes letters out of the store without handling them. The policy's `onDiscarded` is told of each before. */
  readonly discard: (target: Target, options: DiscardOptions) => Effect.Effect<Report, CommandError>
  /** The parked aggregates, in the order of their names. */
  readonly parked: (
    options?: { readonly limit?: number | undefined; readonly after?: string | undefined }
  ) => Effect.Effect<ParkedPage>
  /** The causes for which aggregates are parked, the most frequent first. */
  readonly causes: Effect.Effect<ReadonlyArray<CauseGroup>>
  /** The letters of an aggregate, in order: 100 by default, 1,000 at most. Without their messages unless `payload` says so. */
  readonly letters: (
    aggregate: string,
    options?: {
      readonly limit?: number | undefined
      /** Only those above this offset. */
      readonly after?: number | undefined
      readonly payload?: boolean | undefined
    }
  ) => Effect.Effect<ReadonlyArray<Letter>, ReadFailed>
}
