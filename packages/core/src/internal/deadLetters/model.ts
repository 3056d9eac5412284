/** What `DeadLetters` shows to users: its module has the same types, and says of each what it is for. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { DeadLetter } from "../../DeadLetter.js"
import type * as EnvelopeCodec from "../../EnvelopeCodec.js"
import type { InvalidConfiguration, Position, PublishError, ReadError } from "../../EventBusError.js"
import type { Any } from "../../TopicDefinition.js"

/**
 * A letter that waits for somebody's decision.
 *
 * @since 0.1.0
 * @category models
 */
export interface Letter {
  /** Where the letter stands: in the topic of dead letters. */
  readonly position: Position
  /** When it was written, in milliseconds since the epoch. */
  readonly time: number
  /** What the original is ordered by: its aggregate id, or what stands for its key. Undefined: it has no order. */
  readonly aggregate: string | undefined
  /** The fingerprint of the cause: the error's tag and the first frame of the user's code. */
  readonly cause: string
  /** What it says of itself, and the original. */
  readonly content: DeadLetter
}

/**
 * The letters with the same cause.
 *
 * @since 0.1.0
 * @category models
 */
export interface Group {
  readonly cause: string
  /** What the newest of them says, without payload. */
  readonly message: string | undefined
  readonly letters: number
  /** How many aggregates they are of. */
  readonly aggregates: number
  /** When the first and the newest of them were written, in milliseconds since the epoch. */
  readonly first: number
  readonly last: number
}

/**
 * Which letters an operation is about: those of an aggregate, those with a cause (as a group has it), those that a function picks, or all.
 *
 * @since 0.1.0
 * @category models
 */
export type Target =
  | { readonly aggregate: string }
  | { readonly cause: string }
  | { readonly where: (letter: Letter) => boolean }
  | "all"

/**
 * What is needed to know dead letters.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * The topics whose messages are given up to the topic of dead letters, as their subscriptions have them. Letters are released into these and into no others, for anybody can
   * write a letter that names a topic. On NATS a topic with a pattern stands for all its subjects.
   */
  readonly topics: ReadonlyArray<Any & { readonly codec?: EnvelopeCodec.Service | undefined }>
  /** Under this name is remembered which letters are released and discarded. Default: `dead-letters`. */
  readonly group?: string | undefined
  /** Whether the last valid token of the original's subject is the aggregate id if the message has no other (NATS). Default: false. */
  readonly aggregateIdFromSubject?: boolean | undefined
}

/**
 * Who does it and why. It is logged, remembered, and in the headers of what is released.
 *
 * @since 0.1.0
 * @category options
 */
export interface DiscardOptions {
  readonly who: string
  readonly why: string
  /** Only says what would be done. Default: false. */
  readonly dryRun?: boolean | undefined
}

/**
 * How letters are released.
 *
 * @since 0.1.0
 * @category options
 */
export interface ReleaseOptions extends DiscardOptions {
  /** How many letters are released in a second. Default: no limit. */
  readonly rate?: number | undefined
  /** How many letters are published before it is remembered: so many a kill may have released again. Default: 100. */
  readonly batch?: number | undefined
}

/**
 * What was done with letters, or would be.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  /** Released or discarded. */
  readonly letters: number
  /** Of these, those that the broker had already: a release that was killed had published them (JetStream). */
  readonly recognized: number
  /** The broker refused them, or a way to publish them did: 100 at most are listed. */
  readonly refused: ReadonlyArray<{ readonly position: Position; readonly error: PublishError }>
  readonly refusals: number
  /** They stand behind a refused one of their aggregate, and were not tried. */
  readonly behind: number
  /** They are of topics that were not named. */
  readonly elsewhere: number
  /** They were released or discarded before. */
  readonly done: number
  /** Messages of the topic that are no dead letters. */
  readonly strangers: number
}

/**
 * A release or a discard ended before it was through. Say it once more: it goes on where it ended.
 *
 * @since 0.1.0
 * @category errors
 */
export class DeadLettersFailed extends Data.TaggedError("DeadLettersFailed")<{
  readonly topic: string
  /** What was done until then. */
  readonly report: Report
  /** Letters that were published, or perhaps were, and are not remembered: they are released again when it goes on. */
  readonly uncertain: number
  readonly cause: PublishError | ReadError
}> {
  override get message(): string {
    const again = this.uncertain === 0 ? "" : `, ${this.uncertain} more may be and will be once more`
    return `${this.report.letters} dead letters of "${this.topic}" are through${again}; then it ended: ${this.cause.message}`
  }
}

/**
 * The dead letters of a topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetters {
  /** The causes for which letters wait, those with the most letters first: 1,000 at most, and the others as one with the cause `others`. */
  readonly groups: (target?: Target) => Effect.Effect<ReadonlyArray<Group>, ReadError>
  /** The letters that wait, in their order within each partition. */
  readonly letters: (target?: Target) => Stream.Stream<Letter, ReadError>
  /**
   * Publishes the originals into the topics that they came from, those of an aggregate in their order, one after the other. They come after all that was
   * published meanwhile. An aggregate whose letter is refused stays behind from there on.
   */
  readonly release: (
    target: Target,
    options: ReleaseOptions
  ) => Effect.Effect<Report, DeadLettersFailed | InvalidConfiguration>
  /** From now on the letters are as if they were not there. The topic keeps them as long as its retention says. */
  readonly discard: (
    target: Target,
    options: DiscardOptions
  ) => Effect.Effect<Report, DeadLettersFailed | InvalidConfiguration>
}
