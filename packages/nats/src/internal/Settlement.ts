/**
 * Settling before handling: what is to be handled is recorded as settled where the server keeps its word, and only then is anything
 * handled. That the server is also told, by acknowledgements that nobody waits for, keeps it from delivering them again.
 *
 * Where there is no room for the record, a confirmed acknowledgement does for a stream in the memory of one server: what forgets the
 * acknowledgement has lost the message as well.
 */
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { isStorageFull } from "../NatsErrors.js"
import type { Intake } from "./Intake.js"
import type { SettledRecord } from "./SettledRecord.js"

/** How long the server may take to confirm, all attempts together. */
const deadline = "5 seconds"

/** The wait before an attempt that failed is made again. */
const retryDelay = "100 millis"

export const settle = (
  record: Pick<SettledRecord, "write">,
  intake: Intake,
  /** Fails where the partition can be another's. */
  owned: Effect.Effect<void, SettlementFailed>,
  topic: string,
  partition: number,
  messages: ReadonlyArray<IncomingMessage>,
  /** Acknowledges them, and succeeds when that is confirmed; undefined where a confirmation is no proof. */
  acknowledge?: (messages: ReadonlyArray<IncomingMessage>) => Effect.Effect<void>
): Effect.Effect<void, SettlementFailed> =>
  Effect.gen(function*() {
    const failed = (cause: unknown, isRetryable: boolean) =>
      new SettlementFailed({ topic, partition, isRetryable, cause })
    const foreign = messages.find(({ offset }) => !intake.held.has(offset) && !intake.finished.has(offset))
    if (foreign !== undefined) return yield* failed(`message ${foreign.offset} is not in hand here`, false)
    const open = messages.filter(({ offset }) => intake.held.has(offset))
    if (open.length === 0) return
    yield* owned.pipe(
      Effect.zipRight(Effect.suspend(() => {
        const finished = intake.finished.with(open.map(({ offset }) => offset))
        return record.write({ finished, latest: intake.latest }).pipe(
          Effect.catchIf(
            (failure) => acknowledge !== undefined && failure._tag === "NatsRequestFailed" && isStorageFull(failure),
            () => acknowledge!(open)
          )
        )
      })),
      Effect.mapError((cause) => cause._tag === "SettlementFailed" ? cause : failed(cause, cause._tag !== "LeaseLost")),
      Effect.retry({ while: ({ isRetryable }) => isRetryable, schedule: Schedule.spaced(retryDelay) }),
      Effect.timeoutFail({
        duration: deadline,
        onTimeout: () => failed("the server did not confirm it in time", true)
      }),
      // Begun and confirmed while the partition was ours: the next owner passes over these messages.
      Effect.zipRight(owned)
    )
    for (const message of open) intake.finish(message)
  })
