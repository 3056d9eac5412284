/**
 * The failures that a subscription reports. Those of envelopes and those of
 * plain messages are different types, because they mean different things. After
 * an envelope's failure everything was tried, and a policy has decided. After a plain
 * message's failure the message is gone.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type { DecodeError, HandlerTimeout, Position, UnknownEventType } from "./EventBusError.js"
import type { FailurePolicy } from "./FailurePolicy.js"
import { describeCause } from "./internal/describeCause.js"

/**
 * The handling of an at-least-once message has been given up (or, with `hold`, goes on at the cap).
 *
 * @since 0.1.0
 * @category errors
 */
export class EnvelopeFailure<E = unknown> extends Data.TaggedError("EnvelopeFailure")<{
  readonly position: Position
  readonly group: string
  readonly aggregateId: string | undefined
  /** How often the handler was started for this message. */
  readonly attempts: number
  /** How often the actor was restarted for it, and the handler started again: 3 for 4 attempts that died. */
  readonly restarts: number
  /** The policy that decided. */
  readonly policy: FailurePolicy
  readonly cause: Cause.Cause<unknown>
}> {
  /** @since 0.1.0 */
  declare readonly cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>
  override get message() {
    const done = {
      DeadLetter: (policy: FailurePolicy) => `it was dead-lettered to "${(policy as { topic: string }).topic}"`,
      Hold: () => "it is held, and tried again",
      Drop: () => "it was dropped",
      Park: () => "it was parked with its aggregate"
    }[this.policy._tag](this.policy)
    return `${describe(this.position)} was not handled after ${count(this.attempts, "attempt")} and ${
      count(this.restarts, "restart")
    }; ${done}: ${describeCause(this.cause)}`
  }
}

/**
 * The handler of an at-most-once message failed. The message was settled before, so it is gone.
 *
 * @since 0.1.0
 * @category errors
 */
export class PlainFailure<E = unknown> extends Data.TaggedError("PlainFailure")<{
  readonly position: Position
  readonly group: string
  readonly aggregateId: string | undefined
  readonly cause: Cause.Cause<unknown>
}> {
  /** @since 0.1.0 */
  declare readonly cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>
  override get message() {
    return `${describe(this.position)} was not handled and will not come again: ${describeCause(this.cause)}`
  }
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

const describe = (position: Position): string =>
  `The message ${position.topic}[${position.partition}]@${position.offset}`
