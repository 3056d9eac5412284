/**
 * Publishing: idempotent, confirmed by all replicas, one request outstanding per
 * broker. What is published while a request is out goes with the next one, so batches
 * grow with the load and nobody waits for a timer.
 *
 * A batch that was sent stays as it is, with its sequence number, until the
 * broker has said what became of it: so a repetition is recognized, and whatever
 * comes after it in its partition waits.
 *
 * @since 0.1.0
 */
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import { BusClosed, InvalidConfiguration, InvalidMessage, MessageTooLarge } from "@effect-eventbus/core/EventBusError"
import * as Partitioner from "@effect-eventbus/core/Partitioner"
import type { OutgoingMessage, Service, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Client } from "./internal/Client.js"
import type { Closing } from "./internal/Closing.js"
import { KafkaFailure } from "./internal/Failure.js"
import { monotonic } from "./internal/monotonic.js"
import { notTried } from "./internal/Outbox.js"
import { recordOf, sizeOf } from "./internal/outgoing.js"
import type { Result } from "./internal/PublishQueue.js"
import { Call } from "./internal/PublishQueue.js"
import * as Sender from "./internal/Sender.js"
import type { Settings } from "./KafkaConfig.js"
import { toPublishError } from "./KafkaErrors.js"
import type { KafkaTopics, Topic } from "./KafkaTopics.js"

/**
 * Publishes; the transport's `publish`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaProducer {
  readonly publish: Service["publish"]
  /**
   * Writes messages to one partition of a topic that is known already, as a chain: the first that fails is the last that is tried, and
   * what is written of them is always a beginning.
   */
  readonly write: (
    topic: string,
    partition: number,
    messages: ReadonlyArray<OutgoingMessage>,
    options: { readonly timeout: Duration.Duration }
  ) => ReturnType<Service["publish"]>
}

/**
 * A producer that ends with the scope: then it sends what waits, for at most the close timeout.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  client: Client,
  topics: KafkaTopics,
  settings: Settings,
  closing?: Closing
): Effect.Effect<KafkaProducer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const now = monotonic(clock)
    const outbox = yield* Sender.make(client, topics, settings)
    const turns = new Map<string, number>()
    const fork = yield* FiberSet.makeRuntime<never>()
    let phase: "open" | "closing" | "closed" = "open"
    let publishing = 0
    let isExpiring = false

    /** One timer for all who wait, and none while nobody does. */
    const expire = Effect.gen(function*() {
      while (!outbox.isEmpty) {
        yield* Effect.sleep(EXPIRY_TICK)
        outbox.expire(now())
      }
      isExpiring = false
    })

    const partitionOf = (key: Buffer | null, { leaders, name }: Topic): number => {
      if (key !== null) {
        return Partitioner.partition(settings.topicPartitioners[name] ?? settings.partitioner, key, leaders.length)
      }
      const turn = turns.get(name) ?? 0
      turns.set(name, turn + 1)
      return turn % leaders.length
    }

    /** With a partition they are a chain that is written there. */
    const send = (topic: Topic, messages: ReadonlyArray<OutgoingMessage>, deadline: number, partition?: number) =>
      Effect.async<ReadonlyArray<Result>>((resume) => {
        const at = Math.floor(clock.unsafeCurrentTimeMillis())
        const records = messages.map((message) => recordOf(message, at))
        const sizes = records.map(sizeOf)
        const results = messages.map((message, i) => refusal(topic.name, message, sizes[i]!, settings))
        if (partition !== undefined) endChain(topic.name, results)
        const call = new Call(results, deadline, partition !== undefined)
        const done = () => {
          outbox.close(call)
          resume(Effect.succeed(call.results as ReadonlyArray<Result>))
        }
        if (call.remaining === 0) return done()
        call.onEnd = done
        records.forEach((record, index) => {
          if (results[index] !== undefined) return
          const queue = outbox.queueOf(topic.name, partition ?? partitionOf(record.key, topic))
          const size = sizes[index]!
          call.entries.push({ call, index, queue, record, size, stage: "admission", isOwn: false, abandoned: false })
        })
        outbox.add(call)
        if (!isExpiring) {
          isExpiring = true
          fork(expire)
        }
        return Effect.sync(() => outbox.abandon(call, false))
      })

    /** What is known already needs no time limit, which would cost more than all the rest. */
    const topicOf = (spec: TopicSpec, timeout: Duration.Duration) =>
      topics.isReady(spec.name) ? topics.ensure(spec) : Effect.timeoutFail(topics.ensure(spec), {
        duration: timeout,
        onTimeout: () =>
          new KafkaFailure({ type: "Timeout", sent: false, cause: "the topic was not found, made or checked yet" })
      })

    const publishTo = (
      name: string,
      topic: Effect.Effect<Topic, KafkaFailure | InvalidConfiguration>,
      messages: ReadonlyArray<OutgoingMessage>,
      timeout: Duration.Duration,
      partition?: number
    ) =>
      Effect.suspend(() => {
        const all = (error: PublishError) => messages.map((): Result => Either.left(error))
        if (phase !== "open") return Effect.succeed(all(new BusClosed({ topic: name })))
        if (Duration.toMillis(timeout) <= settings.linger) return Effect.succeed(all(tooLong(name, timeout)))
        const deadline = now() + Duration.toMillis(timeout)
        publishing++
        return topic.pipe(
          Effect.matchEffect({
            onFailure: (error) =>
              Effect.succeed(all(error._tag === "KafkaFailure" ? toPublishError(name, error) : error)),
            onSuccess: (topic) =>
              phase === "closed"
                ? Effect.succeed(all(new BusClosed({ topic: name })))
                : send(topic, messages, deadline, partition)
          }),
          Effect.ensuring(Effect.sync(() => {
            publishing--
          }))
        )
      })

    const publish: Service["publish"] = (spec, messages, { timeout }) =>
      publishTo(spec.name, topicOf(spec, timeout), messages, timeout)

    const write: KafkaProducer["write"] = (name, partition, messages, { timeout }) => {
      const topic = Effect.suspend(() => {
        const known = topics.known(name)
        return known === undefined ? Effect.fail(unknownTopic) : Effect.succeed(known)
      })
      return publishTo(name, topic, messages, timeout, partition)
    }

    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        phase = "closing"
        closing?.begin()
        const until = now() + (closing?.leftMs ?? settings.closeTimeout)
        while (publishing > 0 && now() < until) yield* Effect.sleep("5 millis")
        closing?.end()
        phase = "closed"
        outbox.expire(Infinity)
      })
    )
    return { publish, write }
  })

const unknownTopic = new KafkaFailure({
  type: "UNKNOWN_TOPIC_OR_PARTITION",
  sent: false,
  cause: "The broker has no such topic"
})

/** What is refused here ends a chain, too. */
const endChain = (topic: string, results: Array<Result | undefined>): void => {
  const first = results.findIndex((result) => result !== undefined)
  if (first < 0) return
  const refused = results[first]!
  const cause = Either.isLeft(refused) ? refused.left : undefined
  for (let i = first + 1; i < results.length; i++) results[i] = Either.left(notTried(topic, cause))
}

const tooLong = (topic: string, timeout: Duration.Duration) => {
  const publishTimeout = Duration.format(timeout)
  const issue = `kafka.linger: has to be less than publishTimeout (${publishTimeout}), or nothing is sent in time`
  return new InvalidConfiguration({ topic, issues: [issue] })
}

const EXPIRY_TICK = "25 millis"

const refusal = (
  topic: string,
  message: OutgoingMessage,
  size: number,
  settings: Settings
): Result | undefined => {
  if (message.timestamp !== undefined && !(Number.isSafeInteger(message.timestamp) && message.timestamp >= 0)) {
    const issue = `timestamp ${message.timestamp} is not a whole number of milliseconds since 1970`
    return Either.left(new InvalidMessage({ topic, issue }))
  }
  return size > settings.maxMessageBytes
    ? Either.left(new MessageTooLarge({ topic, size, limit: settings.maxMessageBytes }))
    : undefined
}
