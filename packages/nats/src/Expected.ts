/**
 * What a publisher expects to be the last message, for optimistic concurrency: the stream writes the message only
 * if it is so, and else the publish fails with `PublishFailed`, reason `WrongLastSequence`, and nothing was written.
 *
 * The expectation is a header of the message, so it goes through the bus like any other:
 *
 * ```ts
 * bus.publish(Orders, { aggregateId, payload, headers: Expected.lastSubjectSequence(receipt.offset) })
 * ```
 *
 * The server checks a repeated attempt for its message id first, so that one whose acknowledgement got lost is acknowledged again.
 * Readers don't see these headers: a message that is published again, as a dead letter for example, expects nothing.
 *
 * @since 0.1.0
 */
import type { Headers } from "@effect-eventbus/core/Headers"

/**
 * The last message on the topic's subject has this stream sequence (the offset of its receipt or delivery); 0 where there is none
 * yet. Of a topic without partitions the subject holds all aggregates. `Nats-Expected-Last-Subject-Sequence`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const lastSubjectSequence = (sequence: number): Headers => ({
  "Nats-Expected-Last-Subject-Sequence": String(sequence)
})

/**
 * The last message on any subject that the pattern stands for has this stream sequence; 0 where there is none yet. So it is of several
 * aggregates, or of all (`orders.>`): `Subject.ofPartition("orders", 3)` is a whole partition. Needs nats-server 2.11; with an older one,
 * which would look at the message's own subject only, the publish fails with `InvalidMessage`.
 * `Nats-Expected-Last-Subject-Sequence-Subject`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const lastSequenceOf = (pattern: string, sequence: number): Headers => ({
  "Nats-Expected-Last-Subject-Sequence": String(sequence),
  "Nats-Expected-Last-Subject-Sequence-Subject": pattern
})

/**
 * The last message in the whole stream has this sequence. `Nats-Expected-Last-Sequence`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const lastSequence = (sequence: number): Headers => ({ "Nats-Expected-Last-Sequence": String(sequence) })

/**
 * The last message in the whole stream is this event on this subject. `Nats-Expected-Last-Msg-Id`. The subject is the topic; of
 * a topic with partitions it is that of the event's aggregate, `Subject.ofAggregate(topic, partition, aggregateId)`, with the
 * partition of its receipt or delivery.
 *
 * @since 0.1.0
 * @category constructors
 */
export const lastEvent = (subject: string, eventId: string): Headers => ({
  "Nats-Expected-Last-Msg-Id": `${subject}/${eventId}`
})
