/**
 * The durable pull consumer of a subscription: made when it is missing, checked
 * or changed when it has other settings.
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { Settings } from "../NatsConfig.js"
import { codes, isNotFound, isRefused, type NatsRequestFailed } from "../NatsErrors.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import type { Stream } from "./NatsStreams.js"
import { hasMetadata, toMetadata } from "./StreamSettings.js"

/** The ack wait while a take-over makes the server deliver again what is outstanding; shorter ones don't work. */
export const shortAckWait = 300

/** Unfinished messages of the lane, what is fetched ahead, and acknowledgements on their way. */
const toMaxAckPending = (request: SubscribeRequest, settings: Settings): number =>
  request.maxUnfinished + 2 * settings.prefetchMessages

export const toConfig = (
  durable: string,
  filter: string,
  partition: number,
  request: SubscribeRequest,
  settings: Settings
): ConsumerConfig => ({
  durable_name: durable,
  name: durable,
  ack_policy: "explicit",
  ack_wait: settings.ackWait * 1e6,
  max_deliver: -1,
  max_ack_pending: toMaxAckPending(request, settings),
  filter_subject: filter,
  replay_policy: "instant",
  ...(settings.inactiveThreshold === 0 ? {} : { inactive_threshold: settings.inactiveThreshold * 1e6 }),
  ...(settings.options.consumerReplicas === undefined ? {} : { num_replicas: settings.options.consumerReplicas }),
  ...(settings.options.consumerMetadata === undefined
    ? {}
    : { metadata: toMetadata(settings.options.consumerMetadata) }),
  ...toStart(request.startFrom, partition, settings)
})

const toStart = (
  startFrom: SubscribeRequest["startFrom"],
  partition: number,
  settings: Settings
): Partial<ConsumerConfig> => {
  // Where another group has stopped is not known yet, and what it had no position in begins at the earliest.
  if (startFrom === "earliest" || (typeof startFrom === "object" && "group" in startFrom)) {
    return { deliver_policy: "all" }
  }
  if (startFrom === "latest") return { deliver_policy: settings.latest }
  if ("time" in startFrom) {
    return { deliver_policy: "by_start_time", opt_start_time: startFrom.time.toISOString() }
  }
  // Offsets are the stream's sequences, in all partitions.
  const offset = startFrom.offsets[partition]
  return offset === undefined
    ? { deliver_policy: "all" }
    : { deliver_policy: "by_start_sequence", opt_start_seq: Math.max(1, offset) }
}

/** `resumeFrom` is where to begin when the consumer is gone and this process had read from it. */
export const ensure = (
  api: Api,
  settings: Settings,
  found: Stream,
  wanted: ConsumerConfig,
  resumeFrom: number | undefined,
  /** Told what was there before it is changed; undefined where nothing was. */
  onFound: (found: ConsumerConfig | undefined) => Effect.Effect<void>
): Effect.Effect<ConsumerInfo, NatsRequestFailed | InvalidConfiguration> =>
  api.consumerInfo(found.name, wanted.durable_name!).pipe(
    Effect.tap((info) => onFound(info.config)),
    Effect.flatMap((info) => adapt(api, settings, info, wanted, found, resumeFrom)),
    Effect.catchIf(
      (failure): failure is NatsRequestFailed =>
        failure._tag === "NatsRequestFailed" && isNotFound(failure) &&
        failure.error?.err_code !== codes.streamNotFound,
      () =>
        Effect.zipRight(
          Effect.logDebug("Creating a JetStream consumer").pipe(
            Effect.annotateLogs("consumer", wanted.durable_name),
            Effect.zipRight(onFound(undefined))
          ),
          create(api, settings, found, wanted, resumeFrom)
        )
    )
  )

/**
 * What to do about a consumer that the server knows, and that answers no request. As a rule it is nothing: a consumer may stall while its
 * leader changes, and some servers (2.11.0 to 2.11.10, 2.12.0 and 2.12.1) say nothing to a request that does not wait and gets nothing.
 * The consumer is the group's position, so it stays. Where two made the stream at once, 2.9 can give a consumer to the one that it
 * throws away: its messages and heartbeats go nowhere as long as it lives, so it is made anew there. With it an interest or work-queue
 * stream would drop what nobody else has to read, so of those it stays in any case.
 */
export const replaceUnanswering = (
  api: Api,
  { name: stream, retention }: Pick<Stream, "name" | "retention">,
  durable: string
): Effect.Effect<void, NatsRequestFailed> => {
  const isDeleted = (retention ?? "limits") === "limits" && !api.isAtLeast(2, 10)
  return Effect.logWarning(
    isDeleted
      ? "The server does not answer for the consumer: it is made anew, and begins where this process knows that it has to"
      : "The server does not answer for the consumer: nothing is read until it does"
  ).pipe(
    Effect.annotateLogs({ stream, consumer: durable }),
    Effect.zipRight(
      isDeleted
        ? Effect.catchIf(api.deleteConsumer(stream, durable), isNotFound, () => Effect.void)
        : Effect.void
    ),
    Effect.asVoid
  )
}

const create = (
  api: Api,
  settings: Settings,
  { last, name: stream }: Stream,
  wanted: ConsumerConfig,
  resumeFrom: number | undefined
): Effect.Effect<ConsumerInfo, NatsRequestFailed | InvalidConfiguration> => {
  const { opt_start_seq, opt_start_time: _, ...rest } = wanted
  const config: ConsumerConfig = resumeFrom !== undefined
    ? { ...rest, deliver_policy: "by_start_sequence", opt_start_seq: resumeFrom }
    // The server would leave out what is published until there.
    : opt_start_seq !== undefined && opt_start_seq > last + 1
    ? { ...wanted, opt_start_seq: last + 1 }
    : wanted
  return api.putConsumer(stream, config).pipe(
    Effect.catchIf(
      // A work queue has only what is not finished, and is read from its start.
      (failure) => resumeFrom !== undefined && failure.error?.err_code === codes.workQueueNotFromStart,
      () => api.putConsumer(stream, { ...rest, deliver_policy: "all" })
    ),
    Effect.catchIf(
      (failure) => failure.error !== undefined && isRefused(failure.error) && !isNotFound(failure),
      (failure) =>
        Effect.fail(
          new InvalidConfiguration({
            issues: [
              `the server refuses the consumer "${wanted.durable_name}" of stream "${stream}": ` +
              `${failure.error?.description}${adviceOf(failure, wanted, settings)}`
            ],
            topic: wanted.filter_subject,
            cause: failure
          })
        )
    )
  )
}

const adviceOf = (
  failure: NatsRequestFailed,
  { max_ack_pending = 0 }: ConsumerConfig,
  { prefetchMessages }: Settings
): string => {
  switch (failure.error?.err_code) {
    case codes.workQueueNotFromStart:
      return `; a work queue is read with startFrom "earliest"`
    case codes.workQueueReadTwice:
    case codes.workQueueUnfilteredTwice:
      return "; a work queue has one group for each topic"
    case codes.maxAckPendingExceeded:
      return `; lower maxUnfinished (${
        max_ack_pending - 2 * prefetchMessages
      }) of the bus or of the subscription, or ` +
        `nats.prefetchMessages (${prefetchMessages}): max_ack_pending has to be maxUnfinished + 2 × prefetchMessages, which is ` +
        `${max_ack_pending}`
    default:
      return ""
  }
}

const adapt = (
  api: Api,
  settings: Settings,
  info: ConsumerInfo,
  wanted: ConsumerConfig,
  stream: Pick<Stream, "storage" | "replicas">,
  resumeFrom: number | undefined
): Effect.Effect<ConsumerInfo, NatsRequestFailed | InvalidConfiguration> => {
  const found = differences(info.config, wanted, stream)
  if (found.length === 0) return Effect.succeed(info)
  const issues = found.map(({ text }) => text)
  const invalid = (more: ReadonlyArray<string>, cause?: unknown) =>
    new InvalidConfiguration({
      issues: [...issues.map((issue) => `consumer "${info.name}" ${issue}`), ...more],
      topic: wanted.filter_subject,
      cause
    })
  if (info.config.deliver_subject !== undefined) {
    return Effect.fail(
      invalid(["a push consumer can't become one that is pulled from: delete it, or use another group"])
    )
  }
  if (isElsewhere(info.config, wanted)) return Effect.fail(invalid([passedOver(info, resumeFrom)]))
  // A process that died within a take-over leaves our own short ack wait behind.
  // Requests keep to the largest batch that there may be, and where it is the server's own limit no consumer can be without.
  const counted = found.filter(({ name }) => name !== "max_batch")
  const isOurs = counted.length === 1 && info.config.ack_wait === shortAckWait * 1e6
  if (settings.consumers === "validate" && !isOurs) {
    return counted.length === 0 ? Effect.succeed(info) : Effect.fail(invalid([]))
  }
  const { backoff: _, inactive_threshold: __, ...others } = info.config
  const kept = Object.fromEntries(Object.entries(others).filter(([name]) => !unwanted.has(name)))
  return api.putConsumer(info.stream_name, {
    ...kept,
    ...(wanted.inactive_threshold === undefined ? {} : { inactive_threshold: wanted.inactive_threshold }),
    ...(wanted.num_replicas === undefined ? {} : { num_replicas: wanted.num_replicas }),
    ...(wanted.metadata === undefined ? {} : { metadata: { ...info.config.metadata, ...wanted.metadata } }),
    ack_policy: wanted.ack_policy,
    ack_wait: wanted.ack_wait,
    max_deliver: wanted.max_deliver,
    max_ack_pending: Math.max(wanted.max_ack_pending!, info.config.max_ack_pending ?? 0),
    filter_subject: wanted.filter_subject,
    replay_policy: wanted.replay_policy
  }).pipe(
    Effect.tap((changed) => {
      const imposed = differences(changed.config, wanted, stream).filter(canBeImposed).map(({ text }) => text)
      if (imposed.length === issues.length) return tellImposed(info.name, imposed)
      return Effect.logInfo("Changed a JetStream consumer").pipe(
        Effect.annotateLogs({ consumer: info.name, before: issues.join("; ") }),
        Effect.zipRight(imposed.length === 0 ? Effect.void : tellImposed(info.name, imposed))
      )
    }),
    Effect.catchIf(
      (failure) => failure.error !== undefined && isRefused(failure.error),
      (failure) => {
        const issue = `the server does not change that: ${failure.error?.description}${
          adviceOf(failure, wanted, settings)
        }`
        return Effect.fail(invalid([issue], failure))
      }
    )
  )
}

/** Whether a limit of the server, or of the stream (`consumer_limits`), can put it into each consumer. Reading goes on with it. */
export const canBeImposed = ({ name }: Difference): boolean => name === "max_batch" || name === "inactive_threshold"

const tellImposed = (consumer: string, imposed: ReadonlyArray<string>) =>
  Effect.logWarning(
    "A limit of the server or of the stream gives the consumer settings that it can't be without: max_batch makes reading slower, and " +
      "inactive_threshold deletes the group's position after so long without a reader"
  ).pipe(Effect.annotateLogs({ consumer, settings: imposed.join("; ") }))

/** Settings that have no place in a consumer of ours. */
const unwanted: ReadonlySet<string> = new Set<keyof ConsumerConfig>([
  "headers_only",
  "priority_policy",
  "priority_groups",
  "priority_timeout",
  "max_batch",
  "max_expires",
  "max_bytes",
  "mem_storage",
  "num_replicas"
])

/** It was made for other subjects, or changed to them. */
const isElsewhere = (actual: ConsumerConfig, wanted: ConsumerConfig): boolean =>
  (actual.filter_subject ?? actual.filter_subjects?.join()) !== wanted.filter_subject

/** The filter is not put back: the position of the consumer would stay where it is, behind messages that nobody has had. */
const passedOver = (info: ConsumerInfo, resumeFrom: number | undefined): string =>
  `up to sequence ${info.delivered.stream_seq} it may have passed over messages that the group has not had, ` +
  "and putting the filter back would not bring them. Delete the consumer: " +
  (resumeFrom === undefined
    ? `then subscribe with startFrom at the first offset that was not handled`
    : `this process then makes it anew at sequence ${resumeFrom}, where it has to go on`)

/** A setting that is not as it has to be, and that in words. */
export interface Difference {
  readonly name: keyof ConsumerConfig
  readonly text: string
}

/**
 * What the consumer has otherwise than it has to be. Where it begins to read is no difference: it has begun. Nor is that it is paused:
 * that is somebody's will.
 */
export const differences = (
  actual: ConsumerConfig,
  wanted: ConsumerConfig,
  { replicas, storage }: Pick<Stream, "storage" | "replicas">
): ReadonlyArray<Difference> => {
  const issues: Array<Difference> = []
  const check = (name: keyof ConsumerConfig, isSame: boolean, expected: unknown = wanted[name]) => {
    if (!isSame) {
      issues.push({
        name,
        text: `has ${name} ${String(actual[name] ?? "none")} instead of ${String(expected ?? "none")}`
      })
    }
  }
  for (const name of ["ack_policy", "ack_wait", "replay_policy"] as const) {
    check(name, actual[name] === wanted[name])
  }
  if (actual.filter_subjects === undefined) check("filter_subject", actual.filter_subject === wanted.filter_subject)
  else check("filter_subjects", !isElsewhere(actual, wanted), wanted.filter_subject)
  check("max_deliver", actual.max_deliver === -1)
  check("max_ack_pending", actual.max_ack_pending === -1 || (actual.max_ack_pending ?? 0) >= wanted.max_ack_pending!)
  check("deliver_subject", actual.deliver_subject === undefined)
  check("inactive_threshold", (actual.inactive_threshold ?? 0) === (wanted.inactive_threshold ?? 0))
  check("backoff", (actual.backoff ?? []).length === 0)
  // Messages without their bodies would be handled, and acknowledged.
  check("headers_only", actual.headers_only !== true)
  check("priority_policy", (actual.priority_policy ?? "none") === "none")
  for (const name of ["max_batch", "max_expires", "max_bytes"] as const) check(name, (actual[name] ?? 0) <= 0)
  // A restart of the server would forget the group's position.
  check("mem_storage", actual.mem_storage !== true || storage === "memory")
  const has = (actual.num_replicas ?? 0) === 0 ? replicas : actual.num_replicas!
  const isEnough = wanted.num_replicas === undefined ? has >= replicas : has === wanted.num_replicas
  check("num_replicas", isEnough, wanted.num_replicas ?? replicas)
  if (wanted.metadata !== undefined && !hasMetadata(actual.metadata, wanted.metadata)) {
    const text = `has metadata ${JSON.stringify(actual.metadata ?? {})} without ${JSON.stringify(wanted.metadata)}`
    issues.push({ name: "metadata", text })
  }
  return issues
}
