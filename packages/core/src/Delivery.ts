/**
 * One message as its handler sees it: where it stands, how it came, and what it is about.
 *
 * @since 0.1.0
 */
import type { Envelope } from "./Envelope.js"
import type { Headers } from "./Headers.js"

/**
 * What is known about a message besides its body or event. It is plain data, and does not change after the handler got it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Delivery {
  readonly topic: string
  readonly partition: number
  /** Kafka's offset, the stream sequence in NATS. */
  readonly offset: number
  readonly group: string
  /**
   * The epoch of the assignment: it rises whenever the partition changes hands. Write it beside your own data
   * and refuse a lower one, and a process that was suspended can't overwrite its successor's work.
   */
  readonly epoch: number
  /** Whether the message may have been handled before: after a crash, a rebalance or a lost acknowledgement. */
  readonly maybeDuplicate: boolean
  /** How often the broker delivered the message, if the broker counts (NATS). */
  readonly deliveryCount: number | undefined
  /** How often the handler was started for this message in this process, this start included: 1 at the first. */
  readonly attempt: number
  /** The aggregate that the message belongs to. Undefined: it has no valid id. Then its key orders it, if it has one. */
  readonly aggregateId: string | undefined
  readonly key: Uint8Array | null
  readonly headers: Headers
  /** Milliseconds since the epoch, by the broker or the publisher. */
  readonly timestamp: number
  /**
   * The message's bytes, as they came; `null` is Kafka's tombstone. They may be a part of a larger buffer that other messages
   * share: read and copy them, but don't write to them, and don't transfer `value.buffer`. Only an at-least-once handler of a plain topic
   * has a copy of its own at each attempt.
   */
  readonly value: Uint8Array | null
}

/**
 * The delivery of an envelope.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeDelivery extends Delivery {
  /** The aggregate: its valid id, else the id as a codec of your own has read it. */
  readonly aggregateId: string
  readonly envelope: Envelope
}
