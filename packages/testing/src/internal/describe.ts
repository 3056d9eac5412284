import type { EnvelopeCodec, Failure, Transport } from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import * as Either from "effect/Either"
import * as Inspectable from "effect/Inspectable"
import type { Entry, Group, Ledger } from "./ledger.js"

interface Named {
  readonly ledger: Ledger
  readonly codec: EnvelopeCodec.Service
}

/**
 * `orders[2]@0 (OrderPlaced of order-1)`.
 *
 * @internal
 */
export const message = (
  { codec, ledger }: Named,
  at: { readonly topic: string; readonly partition: number; readonly offset: number }
): string => {
  const position = `${at.topic}[${at.partition}]@${at.offset}`
  const written = ledger.writtenAt(at)?.message
  if (written === undefined) return position
  const envelope = codec.decode(written.value, written.headers)
  if (Either.isRight(envelope)) return `${position} (${envelope.right.eventType} of ${envelope.right.aggregateId})`
  return written.aggregateId === undefined ? position : `${position} (of ${written.aggregateId})`
}

/**
 * What has become of a message so far, as the rest of a sentence.
 *
 * @internal
 */
export const state = (ledger: Ledger, group: Group | undefined, at: Transport.Receipt): string => {
  if (group === undefined) return `nobody has subscribed to "${at.topic}"`
  const entry = group.find(at.partition, at.offset)
  switch (entry?.outcome) {
    case "handled":
      return `it was handled at attempt ${entry.attempts}`
    case "skipped":
      return "it was skipped, without a handler for it"
    case "lost":
      return "it was settled and then lost: its handler was not done when the subscription ended"
  }
  if (entry?.failure !== undefined) return given(entry, entry.failure)
  if (entry !== undefined && entry.attempts > 0) {
    return entry.isRunning
      ? `its handler still runs, at attempt ${entry.attempts}${lastFailure(entry)}`
      : `it waits for its next attempt, after ${times(entry)}${lastFailure(entry)}`
  }
  if (group.active === 0) return `the subscription of group "${group.name}" has ended`
  return `it waits for its turn${ahead(ledger, group, at)}`
}

const given = (entry: Entry, failure: Failure.EnvelopeFailure | Failure.PlainFailure): string => {
  const after = `after ${times(entry)}: ${summary(failure.cause)}`
  if (failure._tag === "PlainFailure") return `it failed, ${after}`
  switch (failure.policy._tag) {
    case "DeadLetter":
      return `it was dead-lettered to "${failure.policy.topic}" ${after}`
    case "Drop":
      return `it was dropped ${after}`
    case "Hold":
      return `it is held, ${after}`
    case "Park":
      return `it was parked ${after}`
  }
}

const times = ({ attempts }: Entry): string => attempts === 1 ? "1 attempt" : `${attempts} attempts`

/** The message of the same aggregate that is in the way. */
const ahead = (ledger: Ledger, group: Group, at: Transport.Receipt): string => {
  const aggregate = ledger.writtenAt(at)?.message.aggregateId
  if (aggregate === undefined) return ""
  const before = ledger.written.find(({ message, receipt }) =>
    message.aggregateId === aggregate && receipt?.topic === at.topic && receipt.partition === at.partition &&
    receipt.offset < at.offset && group.find(receipt.partition, receipt.offset)?.isFinal === false
  )?.receipt
  return before === undefined ? "" : `, behind ${before.topic}[${before.partition}]@${before.offset}`
}

const lastFailure = (entry: Entry): string => {
  const cause = lastCause(entry)
  return cause === undefined ? "" : `; the last failure: ${summary(cause)}`
}

/** @internal */
export const lastCause = ({ causes, failure }: Entry): Cause.Cause<unknown> | undefined =>
  causes.at(-1) ?? failure?.cause

/** One line for a cause: the stack is in the error's own `cause`. */
const summary = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (!(error instanceof Error)) return Inspectable.toStringUnknown(error, 0)
  return error.message === "" || error.message === "An error has occurred"
    ? error.name
    : `${error.name}: ${error.message}`
}
