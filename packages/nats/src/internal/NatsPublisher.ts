/**
 * Publishing that the stream acknowledges, with many messages in flight over
 * one reply subscription.
 *
 * Of one aggregate (or key) one message is in flight at a time, so that an attempt that gets lost can't be overtaken by
 * the message after it. An attempt whose fate is not known (the connection broke, no acknowledgement came) is made
 * again with the same `Nats-Msg-Id`, which the stream's duplicate window makes harmless; where the stream can have forgotten the id, it
 * is not made again, and the publish ends as unknown.
 */
import {
  BusClosed,
  InvalidConfiguration,
  InvalidMessage,
  MessageTooLarge,
  type PublishError,
  PublishFailed
} from "@effect-eventbus/core/EventBusError"
import type { OutgoingMessage, Receipt, Service, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import { isTransient, type NatsRequestFailed, toNotWritten } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import * as Api from "./Api.js"
import { bounded } from "./Bounded.js"
import type { Connection } from "./Connection.js"
import * as HeaderCodec from "./HeaderCodec.js"
import type { NatsStreams } from "./NatsStreams.js"
import { Outbox } from "./Outbox.js"
import { Call, Entry, TopicQueue } from "./Outgoing.js"
import * as Placement from "./Placement.js"
import type { StoredMessage } from "./StoredMessage.js"

/**
 * The transport's `publish`.
 */
export type Publish = Service["publish"]

/**
 * Ends with its scope: what is in flight then has `closeTimeout` to be acknowledged.
 */
export const make = (
  connection: Connection,
  streams: NatsStreams,
  settings: Settings
): Effect.Effect<Publish, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fork = yield* FiberSet.makeRuntime<never>()
    const outbox: Outbox = new Outbox(connection, settings, {
      onMissing: (topic) => void fork(recover(topic)),
      // Where streams are not looked at, the settings have to be right.
      onDoubt: (topic) => settings.streams === "skip" ? outbox.decide(topic, true) : void fork(look(topic)),
      onDuplicate: (entry, stream, sequence) =>
        void fork(Effect.map(
          Effect.either(stored(connection, settings, stream, sequence)),
          (found) => outbox.compare(entry, sequence, found)
        ))
    })
    yield* Effect.addFinalizer(() => outbox.close)
    const topics = new Map<string, TopicQueue>()
    let serial = 0

    /** Nobody answered for the stream: it may be gone, or have no leader for a while. */
    const recover = (topic: TopicQueue): Effect.Effect<void> =>
      Effect.suspend(() =>
        Effect.sleep(pause(topic.misses)).pipe(
          // As it was before it is made or changed: what it has forgotten it does not know again with a longer window.
          Effect.zipRight(Effect.zip(streams.look(topic.spec), streams.refresh(topic.spec))),
          Effect.matchEffect({
            onSuccess: ([before, stream]) =>
              Effect.sync(() => {
                const duplicateWindow = Math.min(before?.duplicateWindow ?? 0, stream.duplicateWindow)
                topic.stream = { ...stream, duplicateWindow }
                outbox.release(topic)
              }),
            onFailure: (failure) =>
              failure._tag === "NatsRequestFailed" && failure.reason !== "Denied" && failure.reason !== "Closed" &&
                outbox.isWaiting(topic)
                ? Effect.logWarning("The stream of a topic can't be reached", failure.message).pipe(
                  Effect.annotateLogs("topic", topic.spec.name),
                  Effect.zipRight(Effect.sync(() => topic.misses++)),
                  Effect.zipRight(recover(topic))
                )
                : Effect.sync(() => outbox.reject(topic, toNotWritten(topic.spec.name, failure)))
          })
        )
      )

    /** Until it is answered whether what may have been written may be sent again, or nobody waits for that any more. */
    const look = (topic: TopicQueue, failures = 0): Effect.Effect<void> =>
      Effect.matchEffect(streams.look(topic.spec), {
        onSuccess: (stream) =>
          Effect.sync(() => {
            if (stream !== undefined) topic.stream = stream
            outbox.decide(topic, stream !== undefined)
          }),
        onFailure: (failure) =>
          failure._tag === "NatsRequestFailed" && isTransient(failure) && connection.isUp() && outbox.isInDoubt(topic)
            ? Effect.delay(Effect.suspend(() => look(topic, failures + 1)), pause(failures))
            : Effect.sync(() => outbox.decide(topic, false))
      })

    const send = (
      topic: TopicQueue,
      messages: ReadonlyArray<OutgoingMessage>,
      timeout: number,
      fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
    ): Effect.Effect<ReadonlyArray<Either.Either<Receipt, PublishError>>> => {
      const deadline = timeout < 2 ** 31 ? performance.now() + timeout : Infinity
      const call = new Call(messages.length, deadline, fiber, outbox.onReply)
      for (let index = 0; index < messages.length; index++) {
        const entry = toEntry(topic, messages[index]!, call, index)
        if (entry instanceof Entry) call.entries.push(entry)
        else call.answer(index, Either.left(entry))
      }
      return call.isAnswered ? Effect.succeed(call.answers) : answered(call)
    }

    /** Knows the call only: what was encoded need not live as long as somebody waits. */
    const answered = (call: Call) =>
      Effect.async<ReadonlyArray<Either.Either<Receipt, PublishError>>>((resume) => {
        call.resume = resume
        outbox.send(call)
        // What is sent can't be taken back, and a finalizer costs more than all the rest here.
        return call.isSent ? undefined : Effect.sync(() => outbox.abandon(call))
      })

    const toEntry = (
      topic: TopicQueue,
      message: OutgoingMessage,
      call: Call,
      index: number
    ): Entry | InvalidMessage | MessageTooLarge => {
      const at = topic.place(message)
      if (typeof at === "string") return new InvalidMessage({ topic: topic.spec.name, issue: at })
      const { partition, subject } = at
      // Without an id of its own a message gets one that makes repeating an attempt harmless.
      const own = message.id ?? `${connection.inbox}.${(serial++).toString(36)}`
      const id = `${subject}/${own}${returnOf(topic.spec.name, message)}`
      const headers = HeaderCodec.encode(id, message)
      if (typeof headers === "string") return new InvalidMessage({ topic: topic.spec.name, issue: headers })
      if (headers.newest !== undefined && connection.isUp() && !Api.isAtLeast(connection, 2, 11)) {
        const issue =
          `header "${headers.newest}" needs nats-server 2.11: this one would write the message as if it were not there`
        return new InvalidMessage({ topic: topic.spec.name, issue })
      }
      const size = headers.size + (message.value?.length ?? 0)
      const limit = connection.maxPayload()
      return size > limit
        ? new MessageTooLarge({ topic: topic.spec.name, size, limit })
        : new Entry(call, index, topic, subject, partition, headers, message)
    }

    return (spec, messages, options) =>
      Effect.withFiberRuntime((self, { runtimeFlags }) => {
        const fiber = RuntimeFlags.interruptible(runtimeFlags) ? self : undefined
        if (outbox.isClosed) return Effect.succeed(all(messages, new BusClosed({ topic: spec.name })))
        if (messages.length === 0) return Effect.succeed([])
        let topic = topics.get(spec.name)
        if (topic === undefined) {
          const placement = Either.flatMap(Subject.fromTopic(spec.name), () => Placement.of(settings, spec))
          if (Either.isLeft(placement)) {
            return Effect.succeed(
              all(messages, new InvalidConfiguration({ issues: [placement.left], topic: spec.name }))
            )
          }
          topics.set(
            spec.name,
            topic = new TopicQueue(spec, Placement.place(settings, spec, placement.right), unseen(settings, spec))
          )
        }
        const timeout = Duration.toMillis(options.timeout)
        return topic.isReady || settings.streams === "skip"
          ? send(topic, messages, timeout, fiber)
          : prepare(topic, messages, timeout, fiber)
      })

    /** The first publish to a topic waits for its stream, within its own timeout. */
    function prepare(
      topic: TopicQueue,
      messages: ReadonlyArray<OutgoingMessage>,
      timeout: number,
      fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
    ) {
      const start = performance.now()
      const late = () =>
        all(
          messages,
          new PublishFailed({
            topic: topic.spec.name,
            reason: connection.isUp() ? "Timeout" : "Unreachable",
            outcome: "not-written"
          })
        )
      const ready = streams.get(topic.spec).pipe(
        Effect.retry({
          while: (failure) => failure._tag === "NatsRequestFailed" && isTransient(failure),
          schedule: retrying
        })
      )
      return bounded(Effect.either(ready), timeout).pipe(
        Effect.flatMap((result) => {
          if (Option.isNone(result)) return Effect.succeed(late())
          if (Either.isLeft(result.value)) {
            return Effect.succeed(all(messages, toNotWritten(topic.spec.name, result.value.left)))
          }
          topic.isReady = true
          topic.stream = result.value.right
          if (outbox.isClosed) return Effect.succeed(all(messages, new BusClosed({ topic: topic.spec.name })))
          return send(topic, messages, Math.max(0, timeout - (performance.now() - start)), fiber)
        })
      )
    }
  })

/**
 * A dead letter that is published again to the topic where it came from is another message than the one that was given up, which the
 * stream would take it for: it is named by that, too.
 */
const returnOf = (topic: string, { headers }: OutgoingMessage): string => {
  if (!("X-Dead-Letter-Topic" in headers) || headers["X-Dead-Letter-Topic"] !== topic) return ""
  const { "X-Dead-Letter-Group": group, "X-Dead-Letter-Offset": offset, "X-Dead-Letter-Partition": partition } = headers
  return `/after-${String(group)}-${String(partition)}-${String(offset)}`
}

/** What a stream has at a sequence. */
const stored = (
  connection: Connection,
  settings: Settings,
  stream: string,
  sequence: number
): Effect.Effect<StoredMessage, NatsRequestFailed> =>
  Effect.map(
    Api.request(connection, `${settings.apiPrefix}.STREAM.MSG.GET.${stream}`, settings.requestTimeout, {
      seq: sequence
    }),
    (answer) => {
      const { data = "", hdrs = "" } =
        (answer as { readonly message?: { readonly hdrs?: string; readonly data?: string } }).message ?? {}
      return { headers: Buffer.from(hdrs, "base64"), value: Buffer.from(data, "base64") }
    }
  )

/** A stream that nobody has looked at is taken for one as the settings make it. */
const unseen = (settings: Settings, { kind }: TopicSpec): TopicQueue["stream"] => ({
  created: "",
  forgets: (kind === "envelope" ? settings.storage : settings.plainStorage) === "memory" ||
    settings.retention !== "limits",
  duplicateWindow: settings.duplicateWindow
})

/** Before a stream is looked at again, in milliseconds. */
const pause = (misses: number): number => Math.min(50 * 2 ** Math.min(misses, 10), 2_000)

const retrying = Schedule.exponential("100 millis").pipe(Schedule.union(Schedule.spaced("2 seconds")))

const all = (
  messages: ReadonlyArray<OutgoingMessage>,
  error: PublishError
): ReadonlyArray<Either.Either<Receipt, PublishError>> => messages.map(() => Either.left(error))
