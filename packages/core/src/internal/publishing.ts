import type * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as EnvelopeCodec from "../EnvelopeCodec.js"
import { BusClosed, PublishFailed } from "../EventBusError.js"
import type { PublishError } from "../EventBusError.js"
import type * as Observer from "../Observer.js"
import type { EnvelopeDefinition, EnvelopeMessage, PlainDefinition, PlainMessage } from "../TopicDefinition.js"
import type { OutgoingMessage, Receipt, Service as Transport, TopicSpec } from "../Transport.js"
import type { Stopped } from "./control/stopped.js"
import * as Outgoing from "./outgoing.js"
import type { Provided } from "./provided.js"

/**
 * Some of several messages could not be published. `results` has an answer for each, at its index.
 *
 * @since 0.1.0
 * @category errors
 */
export class PublishAllFailed extends Data.TaggedError("PublishAllFailed")<{
  readonly topic: string
  readonly results: ReadonlyArray<Either.Either<Receipt, PublishError>>
}> {
  get failed(): number {
    return this.results.filter(Either.isLeft).length
  }
  /** Whether trying again can help: only if it can for each message that failed. */
  get isRetryable(): boolean {
    return this.results.every((result) => Either.isRight(result) || result.left.isRetryable)
  }
  override get message() {
    const first = this.results.find(Either.isLeft)
    return `${this.failed} of ${this.results.length} messages for topic "${this.topic}" were not published; the first: ${first?.left.message}`
  }
}

type AnyTopic = EnvelopeDefinition<unknown, unknown> | PlainDefinition
type AnyMessage = EnvelopeMessage<unknown> | PlainMessage

/** @internal */
export interface Environment {
  readonly transport: Transport
  readonly codec: EnvelopeCodec.Service
  readonly observer: Observer.Service
  readonly provided: Provided
  readonly timeout: Duration.Duration
  readonly clock: Clock.Clock
  readonly isClosed: () => boolean
  /** Undefined: an aggregate goes on after a publish that failed. */
  readonly stopped: Stopped | undefined
}

/**
 * The publishing side of a bus: it encodes messages, and gives them to the transport.
 *
 * @internal
 */
export const make = (
  { clock, codec, isClosed, observer, provided, stopped, timeout, transport }: Environment
) => {
  const { event } = observer
  const options = { timeout }

  /** With the messages as the observer wants them. */
  const observed = <A, E>(
    topic: AnyTopic,
    operation: Observer.PublishRequest["operation"],
    messages: ReadonlyArray<AnyMessage>,
    run: (messages: ReadonlyArray<AnyMessage>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      const publishing = observer.onPublish?.({ topic: topic.name, operation, messages })
      return publishing === undefined
        ? run(messages)
        : Effect.onExit(run(publishing.messages), (exit) => Effect.sync(() => publishing.ended(exit)))
    })

  const prepare = (
    topic: AnyTopic,
    message: AnyMessage
  ): Either.Either<OutgoingMessage, PublishError> | Effect.Effect<OutgoingMessage, PublishError> => {
    if (isClosed()) return Either.left(new BusClosed({ topic: topic.name }))
    const outgoing = Outgoing.make(codec, topic, message, clock.unsafeCurrentTimeMillis())
    return Either.isEither(outgoing) ? outgoing : inTime(topic, outgoing)
  }

  /** Encoding that needs an effect may take its time, and the bus may close meanwhile. */
  const inTime = (topic: AnyTopic, encoding: Effect.Effect<OutgoingMessage, PublishError>) =>
    Effect.timeoutFail(encoding, {
      duration: timeout,
      onTimeout: () =>
        new PublishFailed({
          topic: topic.name,
          reason: "Timeout",
          outcome: "not-written",
          cause: "the topic's schema did not end in time"
        })
    }).pipe(
      Effect.filterOrFail(() => !isClosed(), () => new BusClosed({ topic: topic.name }))
    )

  const encode = (topic: AnyTopic, message: AnyMessage): Effect.Effect<OutgoingMessage, PublishError> =>
    Effect.suspend(() => prepare(topic, message))

  // The suspension is inside, so that a waiting caller does not keep the transport's effect, and with it the encoded message.
  const publishOne = (topic: AnyTopic, message: AnyMessage): Effect.Effect<Receipt, PublishError> =>
    Effect.flatMap(
      Effect.suspend(() => {
        const outgoing = prepare(topic, message)
        if (!Either.isEither(outgoing)) return Effect.flatMap(outgoing, (encoded) => send(topic, encoded))
        if (Either.isLeft(outgoing)) return Effect.fail(outgoing.left)
        const sending = send(topic, outgoing.right)
        return provided.isChecked ? sending : Effect.zipRight(provided.warn, sending)
      }),
      only
    )

  const publish = stopped === undefined
    ? publishOne
    : (topic: AnyTopic, message: AnyMessage) => stopped.one(topic.name, message, publishOne(topic, message))

  const send = (topic: AnyTopic, encoded: OutgoingMessage) => sendAll(topic.spec, [encoded])

  const sendAll: (topic: TopicSpec, messages: ReadonlyArray<OutgoingMessage>) => ReturnType<typeof transport.publish> =
    event === undefined
      ? (topic, messages) => transport.publish(topic, messages, options)
      : (topic, messages) =>
        // `Effect.timed` would die at a fraction of a `TestClock`'s nanosecond, which a wait with jitter makes.
        Effect.suspend(() => {
          const since = clock.unsafeCurrentTimeNanos()
          return Effect.map(transport.publish(topic, messages, options), (results) => {
            const failed = results.filter(Either.isLeft).length
            const duration = Number(clock.unsafeCurrentTimeNanos() - since) / 1_000_000
            event({ _tag: "Published", topic: topic.name, succeeded: results.length - failed, failed, duration })
            return results
          })
        })

  const publishAll = (topic: AnyTopic, messages: ReadonlyArray<AnyMessage>) =>
    Effect.flatMap(
      stopped === undefined
        ? publishEach(topic, messages)
        : stopped.all(topic.name, messages, (some) => publishEach(topic, some)),
      (results) =>
        results.some(Either.isLeft)
          ? new PublishAllFailed({ topic: topic.name, results })
          : Effect.succeed(results.map(Either.getOrThrow))
    )

  const publishEach = (topic: AnyTopic, messages: ReadonlyArray<AnyMessage>) =>
    Effect.suspend(() => {
      const prepared = messages.map((message) => prepare(topic, message))
      const all = prepared.every((one) => Either.isEither(one))
        ? publishPrepared(topic.spec, prepared as ReadonlyArray<Either.Either<OutgoingMessage, PublishError>>)
        : Effect.flatMap(Effect.forEach(prepared, Effect.either), (encoded) => publishPrepared(topic.spec, encoded))
      return provided.isChecked ? all : Effect.zipRight(provided.warn, all)
    })

  const publishPrepared = (
    topic: TopicSpec,
    prepared: ReadonlyArray<Either.Either<OutgoingMessage, PublishError>>
  ): Effect.Effect<ReadonlyArray<Either.Either<Receipt, PublishError>>> => {
    const valid = prepared.flatMap((one) => Either.isRight(one) ? [one.right] : [])
    if (valid.length === 0) return Effect.succeed(prepared as ReadonlyArray<Either.Either<never, PublishError>>)
    return Effect.map(sendAll(topic, valid), (results) => {
      let next = 0
      return prepared.map((one) => Either.isRight(one) ? results[next++]! : Either.left(one.left))
    })
  }

  if (observer.onPublish === undefined) return { encode, publish, publishAll }
  return {
    encode: (topic: AnyTopic, message: AnyMessage) =>
      observed(topic, "encode", [message], ([one]) => encode(topic, one!)),
    publish: (topic: AnyTopic, message: AnyMessage) =>
      observed(topic, "publish", [message], ([one]) => publish(topic, one!)),
    publishAll: (topic: AnyTopic, messages: ReadonlyArray<AnyMessage>) =>
      observed(topic, "publish", messages, (all) => publishAll(topic, all))
  }
}

/** The answer for the only message. */
const only = (results: ReadonlyArray<Either.Either<Receipt, PublishError>>): Effect.Effect<Receipt, PublishError> => {
  const result = results[0]!
  return Either.isRight(result) ? Effect.succeed(result.right) : Effect.fail(result.left)
}
