import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { type PublishError, PublishFailed, ReadFailed } from "../EventBusError.js"
import type { Store } from "../Transport.js"

/**
 * A store whose reads and writes only fail. One that dies, interrupts itself or leaves answers out is tried again like one that is away: else what
 * waits for it would wait for ever, and nobody would hear of it.
 *
 * @internal
 */
export const sound = (store: Store, topic: string): Store => {
  const unknown = (cause?: unknown): Either.Either<never, PublishError> =>
    Either.left(new PublishFailed({ topic, reason: "Unreachable", outcome: "unknown", cause }))
  return {
    write: (partition, changes, options) =>
      Effect.suspend(() => store.write(partition, changes, options)).pipe(
        Effect.map((results) => changes.map((_, i) => results[i] ?? unknown())),
        Effect.catchAllCause((cause) => Effect.succeed(changes.map(() => unknown(Cause.squash(cause)))))
      ),
    read: (partition, options) =>
      Stream.suspend(() => store.read(partition, options)).pipe(
        Stream.mapErrorCause((cause) => {
          const failure = Cause.failureOrCause(cause)
          return Cause.fail(
            Either.isLeft(failure) ? failure.left : new ReadFailed({ topic, cause: Cause.squash(failure.right) })
          )
        })
      )
  }
}
