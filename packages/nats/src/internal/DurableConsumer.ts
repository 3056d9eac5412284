/**
 * The durable pull consumer of a subscription: made when it is missing, checked
 * or changed when it has other settings.
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { Settings } from "../NatsConfig.js"
import { codes, isNotFound, type NatsRequestFailed } from "../NatsErrors.js"
import type { Stream } from "../NatsStreams.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"

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
  ...toStart(request.startFrom, partition, settings)
})

const toStart = (
  startFrom: SubscribeRequest["startFrom"],
  partition: number,
  settings: Settings
): Partial<ConsumerConfig> => {
  if (startFrom === "earliest") return { deliver_policy: "all" }
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
  { last, name: stream }: Stream,
  wanted: ConsumerConfig,
  resumeFrom: number | undefined,
  /** Told what was there before it is changed; undefined where nothing was. */
  onFound: (found: ConsumerConfig | undefined) => Effect.Effect<void>
): Effect.Effect<ConsumerInfo, NatsRequestFailed | InvalidConfiguration> =>
  api.consumerInfo(stream, wanted.durable_name!).pipe(
    Effect.tap((info) => onFound(info.config)),
    Effect.flatMap((info) => adapt(api, settings, info, wanted)),
    Effect.catchIf(
      (failure): failure is NatsRequestFailed =>
        failure._tag === "NatsRequestFailed" && isNotFound(failure) &&
        failure.error?.err_code !== codes.streamNotFound,
      () =>
        Effect.zipRight(
          Effect.logInfo("Creating a JetStream consumer").pipe(
            Effect.annotateLogs("consumer", wanted.durable_name),
            Effect.zipRight(onFound(undefined))
          ),
          create(api, stream, wanted, last, resumeFrom)
        )
    )
  )

const create = (
  api: Api,
  stream: string,
  wanted: ConsumerConfig,
  last: number,
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
      (failure) => failure.error?.code === 400 && !isNotFound(failure),
      (failure) =>
        Effect.fail(
          new InvalidConfiguration({
            issues: [
              `the server refuses the consumer "${wanted.durable_name}" of stream "${stream}": ` +
              `${failure.error?.description}${adviceOf(failure)}`
            ],
            topic: wanted.filter_subject,
            cause: failure
          })
        )
    )
  )
}

const adviceOf = (failure: NatsRequestFailed): string => {
  switch (failure.error?.err_code) {
    case codes.workQueueNotFromStart:
      return `; a work queue is read with startFrom "earliest"`
    case codes.workQueueReadTwice:
    case codes.workQueueUnfilteredTwice:
      return "; a work queue has one group for each topic"
    default:
      return ""
  }
}

const adapt = (
  api: Api,
  settings: Settings,
  info: ConsumerInfo,
  wanted: ConsumerConfig
): Effect.Effect<ConsumerInfo, NatsRequestFailed | InvalidConfiguration> => {
  const issues = differences(info.config, wanted)
  if (issues.length === 0) return Effect.succeed(info)
  const invalid = (more: ReadonlyArray<string>, cause?: unknown) =>
    new InvalidConfiguration({
      issues: [...issues.map((issue) => `consumer "${info.name}" ${issue}`), ...more],
      topic: wanted.filter_subject,
      cause
    })
  // A process that died within a take-over leaves our own short ack wait behind.
  const isOurs = issues.length === 1 && info.config.ack_wait === shortAckWait * 1e6
  if (settings.consumers === "validate" && !isOurs) return Effect.fail(invalid([]))
  const { backoff: _, inactive_threshold: __, ...kept } = info.config
  return api.putConsumer(info.stream_name, {
    ...kept,
    ...(wanted.inactive_threshold === undefined ? {} : { inactive_threshold: wanted.inactive_threshold }),
    ack_policy: wanted.ack_policy,
    ack_wait: wanted.ack_wait,
    max_deliver: wanted.max_deliver,
    max_ack_pending: Math.max(wanted.max_ack_pending!, info.config.max_ack_pending ?? 0),
    filter_subject: wanted.filter_subject,
    replay_policy: wanted.replay_policy
  }).pipe(
    Effect.tap(() =>
      Effect.logInfo("Changed a JetStream consumer").pipe(
        Effect.annotateLogs({ consumer: info.name, before: issues.join("; ") })
      )
    ),
    Effect.catchIf(
      (failure) => failure.reason === "Api",
      (failure) => Effect.fail(invalid([`the server does not change that: ${failure.error?.description}`], failure))
    )
  )
}

/** Where a consumer begins to read is no difference: it has begun. */
const differences = (actual: ConsumerConfig, wanted: ConsumerConfig): ReadonlyArray<string> => {
  const issues: Array<string> = []
  const check = (name: keyof ConsumerConfig, isSame: boolean, expected: unknown = wanted[name]) => {
    if (!isSame) issues.push(`has ${name} ${String(actual[name] ?? "none")} instead of ${String(expected ?? "none")}`)
  }
  for (const name of ["ack_policy", "ack_wait", "filter_subject", "replay_policy"] as const) {
    check(name, actual[name] === wanted[name])
  }
  check("max_deliver", actual.max_deliver === -1)
  check("max_ack_pending", actual.max_ack_pending === -1 || (actual.max_ack_pending ?? 0) >= wanted.max_ack_pending!)
  check("deliver_subject", actual.deliver_subject === undefined)
  check("inactive_threshold", (actual.inactive_threshold ?? 0) === (wanted.inactive_threshold ?? 0))
  check("backoff", (actual.backoff ?? []).length === 0)
  return issues
}
