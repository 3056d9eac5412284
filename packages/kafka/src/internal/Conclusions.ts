/**
 * What becomes of a batch that was sent, or that can't be: its messages get their
 * results, or wait again, and its numbers are used again only where it certainly was not written.
 */
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import { MessageTooLarge, PublishFailed } from "@effect-eventbus/core/EventBusError"
import * as Either from "effect/Either"
import { toPublishError } from "../KafkaErrors.js"
import type { ErrorName } from "./ErrorCode.js"
import * as ErrorCode from "./ErrorCode.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { Outbox } from "./Outbox.js"
import type { ProduceAnswer, RecordError } from "./produce.js"
import type { Batch, Entry, PartitionQueue } from "./PublishQueue.js"
import { verdictOf } from "./verdicts.js"

export interface ConclusionsOptions {
  readonly outbox: Outbox
  /** There is something to send to a partition. */
  readonly schedule: (queue: PartitionQueue) => void
  /** The partition waits for a while, and is tried again. */
  readonly rest: (queue: PartitionQueue, error: KafkaFailure) => void
  /** The id is not used for other batches any more. */
  readonly retire: (batch: Batch) => void
}

export interface Conclusions {
  /** The broker has answered. */
  readonly answered: (batch: Batch, answer: ProduceAnswer) => void
  /** A codec that throws, or a message that can't be written: trying again does not help. */
  readonly notEncoded: (batch: Batch, error: KafkaFailure) => void
  /** Nothing of it was sent: its messages wait again. */
  readonly notSent: (batch: Batch) => void
  /** There was no answer for so long that nobody waits for one any more. What comes behind it goes on. */
  readonly overdue: (batch: Batch, error: KafkaFailure | undefined) => void
  /** Nothing of the partition can be sent. */
  readonly giveUp: (queue: PartitionQueue, error: PublishError) => void
}

export const make = ({ outbox, rest, retire, schedule }: ConclusionsOptions): Conclusions => {
  const answered: Conclusions["answered"] = (batch, { baseOffset, errorCode, recordErrors }) => {
    const verdict = verdictOf(errorCode)
    if (verdict === "written") return written(batch, errorCode === 0 ? baseOffset : undefined)
    const error = failure("Produce", errorCode)
    switch (verdict) {
      case "again":
        return rest(batch.queue, error)
      case "put-off":
        // Of an earlier attempt, whose answer was lost, nobody knows.
        if (--batch.sent === 0) putBack(batch, false)
        return rest(batch.queue, error)
      case "uncounted":
        return renumber(batch, error)
      case "too-large":
        return tooLarge(batch, error)
      case "refused":
        // Of an earlier attempt, whose answer was lost, nobody knows.
        if (batch.sent === 1 && refuseNamed(batch, ErrorCode.nameOf(errorCode), recordErrors)) return
        return refuse(batch, () => toPublishError(batch.queue.topic, error))
      case "unknown":
        return refuse(batch, () => toPublishError(batch.queue.topic, error), true)
    }
  }

  const written = (batch: Batch, baseOffset: number | undefined): void => {
    const { partition, topic } = batch.queue
    batch.queue.written(batch)
    batch.entries.forEach((entry, i) =>
      outbox.end(entry, Either.right({ topic, partition, offset: baseOffset === undefined ? -1 : baseOffset + i }))
    )
    schedule(batch.queue)
  }

  /** Which of them it was is found out by sending each alone. */
  const tooLarge = (batch: Batch, error: KafkaFailure): void => {
    if (batch.entries.length > 1) {
      if (batch.sent > 1) forget(batch)
      putBack(batch, true)
      return schedule(batch.queue)
    }
    refuse(batch, ({ size }) => new MessageTooLarge({ topic: batch.queue.topic, size, cause: error }))
  }

  /** The records for which the broker has written nothing of the batch: the others are sent without them, in their order. */
  const refuseNamed = (batch: Batch, type: ErrorName, errors: ReadonlyArray<RecordError> = []): boolean => {
    const named = errors.filter(({ index }) => batch.entries[index] !== undefined)
    if (named.length === 0) return false
    for (const { index, message } of named) {
      const error = new KafkaFailure({ type, sent: true, cause: message ?? "the broker refuses this record" })
      outbox.fail(batch.entries[index]!, toPublishError(batch.queue.topic, error))
    }
    putBack(batch, false)
    schedule(batch.queue)
    return true
  }

  const putBack = (batch: Batch, alone: boolean): void => {
    for (const entry of batch.queue.putBack(batch, alone)) outbox.drop(entry)
    for (const entry of batch.entries) {
      const { brokenAt, results } = entry.call
      if (brokenAt === undefined || entry.index < brokenAt || entry.stage !== "queued") continue
      const first = results[brokenAt]
      outbox.breakOff(entry, first !== undefined && Either.isLeft(first) ? first.left : undefined)
    }
  }

  /** What became of the batch is not known for sure, so its numbers can't be used again. */
  const forget = (batch: Batch): void => batch.queue.fence(batch)

  /** The broker refuses the batch; an earlier attempt, whose answer was lost, may have been written all the same. */
  const refuse = (batch: Batch, error: (entry: Entry) => PublishError, isUnknown = batch.sent > 1): void => {
    if (isUnknown) forget(batch)
    batch.queue.batch = undefined
    for (const entry of batch.entries) {
      outbox.fail(entry, isUnknown ? unknown(batch.queue.topic, error(entry)) : error(entry))
    }
    schedule(batch.queue)
  }

  /** What the broker never had is sent under another id, in the same order. */
  const renumber = (batch: Batch, error: KafkaFailure): void => {
    const { queue } = batch
    queue.producer = undefined
    retire(batch)
    if (batch.sent > 1) return refuse(batch, () => toPublishError(queue.topic, error))
    putBack(batch, false)
    rest(queue, error)
  }

  return {
    answered,
    notEncoded: (batch, error) => {
      if (batch.sent === 0 && batch.entries.length > 1) {
        putBack(batch, true)
        return schedule(batch.queue)
      }
      refuse(batch, () => toPublishError(batch.queue.topic, error), batch.sent > 0)
    },
    notSent: (batch) => putBack(batch, false),
    overdue: (batch, error) =>
      refuse(
        batch,
        () => new PublishFailed({ topic: batch.queue.topic, reason: "Timeout", outcome: "unknown", cause: error }),
        true
      ),
    giveUp: (queue, error) => {
      const { batch } = queue
      const waiting = queue.clear()
      if (batch !== undefined) {
        queue.batch = undefined
        forget(batch)
        for (const entry of batch.entries) outbox.fail(entry, batch.sent > 0 ? unknown(queue.topic, error) : error)
      }
      for (const entry of waiting) outbox.fail(entry, error)
      outbox.admit()
    }
  }
}

const unknown = (topic: string, cause: PublishError): PublishFailed =>
  new PublishFailed({
    topic,
    reason: cause._tag === "PublishFailed" ? cause.reason : "Rejected",
    outcome: "unknown",
    cause
  })
