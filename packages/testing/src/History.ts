/**
 * What happened to the messages of one subscription (a topic and a group), over all its processes: the record that the
 * oracles judge. Entries are plain data: `JSON.stringify` writes one, `JSON.parse` reads it back, so each
 * process can write a log of its own and the logs are put together afterwards.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/**
 * When and where. Times are milliseconds (fractions are allowed) of a clock that all processes share. Entries with the same
 * time are in the order of the array. A process that starts again is a new process with a name of its own.
 *
 * @since 0.1.0
 * @category models
 */
export interface Occurrence {
  readonly at: number
  readonly process: string
}

/**
 * Which message. Sequence numbers count from 0 within each aggregate, in the order in which they were published.
 *
 * @since 0.1.0
 * @category models
 */
export interface Message {
  readonly aggregate: string
  readonly sequence: number
}

/**
 * A message was published. `"unknown"`: the broker did not confirm it, and may have it all the same. A message that was
 * tried several times has several entries, and may be delivered as often.
 *
 * @since 0.1.0
 * @category models
 */
export interface Published extends Occurrence, Message {
  readonly kind: "published"
  readonly outcome: "confirmed" | "unknown"
}

/**
 * The broker handed a message over to a process.
 *
 * @since 0.1.0
 * @category models
 */
export interface Delivered extends Occurrence, Message {
  readonly kind: "delivered"
  readonly epoch: number
}

/**
 * A handler started, for the first time or for a retry.
 *
 * @since 0.1.0
 * @category models
 */
export interface Started extends Occurrence, Message {
  readonly kind: "started"
  /** The epoch of the assignment that the delivery came from. */
  readonly epoch: number
  readonly maybeDuplicate: boolean
}

/**
 * A handler ended. `"finished"`: the bus goes on to the next message, because the handler succeeded or the failure policy
 * has ended; `"failed"`: it will be run again; `"interrupted"`: it will be run again here or elsewhere.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ended extends Occurrence, Message {
  readonly kind: "ended"
  readonly epoch: number
  readonly outcome: "finished" | "failed" | "interrupted"
}

/**
 * The broker confirmed that it needs no redelivery of the message. Optional: without such entries the oracles do not judge
 * when messages are settled.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settled extends Occurrence, Message {
  readonly kind: "settled"
  readonly epoch: number
}

/**
 * From here on the process can neither run nor say anything, until an entry `up` of the same process, if there is one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Down extends Occurrence {
  readonly kind: "down"
  readonly cause: "killed" | "suspended"
}

/**
 * The process runs again, after it was suspended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Up extends Occurrence {
  readonly kind: "up"
}

/**
 * An entry of a history.
 *
 * @since 0.1.0
 * @category models
 */
export type Entry = Published | Delivered | Started | Ended | Settled | Down | Up

/**
 * The entries of all processes; they need not be sorted by time.
 *
 * @since 0.1.0
 * @category models
 */
export type History = ReadonlyArray<Entry>

/**
 * One entry in a line, for people.
 *
 * @since 0.1.0
 * @category printing
 */
export const show = (entry: Entry): string => {
  const at = `${entry.at} ms`.padStart(12)
  switch (entry.kind) {
    case "down":
      return `${at}  ${entry.process} is down (${entry.cause})`
    case "up":
      return `${at}  ${entry.process} is up`
    case "published":
      return `${at}  ${entry.process} published ${entry.aggregate}/${entry.sequence} (${entry.outcome})`
    default: {
      const rest = entry.kind === "ended" ? ` (${entry.outcome})` : entry.kind === "started" && entry.maybeDuplicate
        ? " (maybe a duplicate)"
        : ""
      return `${at}  ${entry.process} epoch ${entry.epoch} ${entry.kind} ${entry.aggregate}/${entry.sequence}${rest}`
    }
  }
}

type WithoutTime<A> = A extends Entry ? Omit<A, "at"> : never

/** The part of a delivery that is recorded. */
interface Delivery {
  readonly aggregateId: string | undefined
  readonly epoch: number
  readonly maybeDuplicate: boolean
}

/**
 * Records a history in memory, with the times of a clock.
 *
 * @since 0.1.0
 * @category constructors
 */
export class Recorder {
  /**
   * @since 0.1.0
   */
  readonly entries: Array<Entry> = []

  constructor(private readonly now: () => number) {}

  /**
   * Adds an entry with the present time.
   *
   * @since 0.1.0
   */
  add(entry: WithoutTime<Entry>): void {
    this.entries.push({ ...entry, at: this.now() } as Entry)
  }

  /**
   * Wraps a handler of envelopes and records its starts and ends, for a process of this name. `sequenceOf` finds the sequence
   * number in the event. Messages that a failure policy finishes have to be added by `onFailure`.
   *
   * @since 0.1.0
   */
  observe<A, D extends Delivery, E, R>(
    process: string,
    sequenceOf: (event: A, delivery: D) => number,
    handler: (event: A, delivery: D) => Effect.Effect<unknown, E, R>
  ): (event: A, delivery: D) => Effect.Effect<void, E, R> {
    return (event, delivery) =>
      Effect.suspend(() => {
        const { epoch, maybeDuplicate } = delivery
        const message = { process, epoch, aggregate: delivery.aggregateId ?? "", sequence: sequenceOf(event, delivery) }
        this.add({ kind: "started", ...message, maybeDuplicate })
        return Effect.asVoid(Effect.onExit(Effect.suspend(() => handler(event, delivery)), (exit) =>
          Effect.sync(() =>
            this.add({
              kind: "ended",
              ...message,
              outcome: Exit.isSuccess(exit) ? "finished" : Exit.isInterrupted(exit) ? "interrupted" : "failed"
            })
          )))
      })
  }
}

/**
 * A recorder on the clock of the surrounding effect: virtual time under the `TestClock`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const recorder: Effect.Effect<Recorder> = Effect.map(
  Clock.clockWith(Effect.succeed),
  (clock) => new Recorder(() => clock.unsafeCurrentTimeMillis())
)
