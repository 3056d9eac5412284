import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { Delivery } from "../Delivery.js"
import type { Envelope } from "../Envelope.js"
import type { DecodeError, Position, UnknownEventType } from "../EventBusError.js"
import type { IncomingMessage } from "../Transport.js"

/**
 * What a lane does with the messages that it has given to mailboxes.
 *
 * @internal
 */
export interface WorkLane {
  /** The actor has the message in hand. `false`: it is not to be handled any more. */
  readonly begin: (work: Work) => boolean
  readonly finish: (work: Work) => void
  /** It was in hand, and its handling was broken off. */
  readonly interrupted: (work: Work) => void
  readonly epoch: number
}

/**
 * A message on its way through a mailbox; its handler sees it as the delivery.
 *
 * @internal
 */
export class Work implements Delivery {
  attempt = 0
  /** How often its handler was started again after a crash: the crash that ends in giving up is none. */
  restarts = 0
  crashed = false
  /** An actor has, or had, it in hand. */
  begun = false
  /** The lane does not count it any more: it was finished, interrupted or dropped. */
  released = false
  /** In a wait between attempts: nothing of the user's runs. */
  waiting = false
  held = false
  retry: Schedule.ScheduleDriver<unknown, never> | undefined
  /** What the handler is called with, once it is decoded. */
  event: unknown = undefined
  isDecoded = false
  lastCause: Cause.Cause<unknown> | undefined
  /** The event, where finding it out needs an effect. */
  decoding: Effect.Effect<unknown, DecodeError | UnknownEventType> | undefined

  constructor(
    readonly message: IncomingMessage,
    readonly lane: WorkLane,
    readonly group: string,
    /** The mailbox's key. */
    readonly mailbox: string,
    readonly aggregateId: string | undefined,
    /** The envelope of a message that is one. */
    readonly envelope: Envelope,
    public undecodable: DecodeError | UnknownEventType | undefined,
    readonly size: number,
    readonly isTombstone = false
  ) {}

  get topic(): string {
    return this.message.topic
  }
  get partition(): number {
    return this.message.partition
  }
  get offset(): number {
    return this.message.offset
  }
  get epoch(): number {
    return this.lane.epoch
  }
  get maybeDuplicate(): boolean {
    return this.message.maybeDuplicate
  }
  get deliveryCount(): number | undefined {
    return this.message.deliveryCount
  }
  get key(): Uint8Array | null {
    return this.message.key
  }
  get headers() {
    return this.message.headers
  }
  get timestamp(): number {
    return this.message.timestamp
  }
  get value(): Uint8Array | null {
    return this.message.value
  }
  get position(): Position {
    return { topic: this.topic, partition: this.partition, offset: this.offset }
  }
}
