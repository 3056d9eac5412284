/**
 * Looks from time to time at the consumer that is read from: whether somebody has changed it on the server, paused it, or deleted it.
 */
import * as Effect from "effect/Effect"
import { isNotFound } from "../NatsErrors.js"
import type { Stream } from "../NatsStreams.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import * as DurableConsumer from "./DurableConsumer.js"
import type { Broken } from "./Pull.js"

/** A request for each partition: often enough for people, and seldom enough for a thousand partitions. */
const interval = "10 seconds"

export interface Options {
  readonly api: Api
  readonly stream: Stream
  readonly wanted: ConsumerConfig
  /** Reading begins again, and finds out what to do. */
  readonly onBroken: (broken: Broken) => void
}

export const run = ({ api, onBroken, stream, wanted }: Options): Effect.Effect<never> => {
  const durable = wanted.durable_name!
  let isPaused = false
  const see = (info: ConsumerInfo): Effect.Effect<void> => {
    const issues = DurableConsumer.differences(info.config, wanted, stream)
    if (issues.length > 0) onBroken({ reason: "ConsumerChanged", detail: `it ${issues.join("; ")}` })
    const wasPaused = isPaused
    isPaused = info.paused === true
    if (isPaused === wasPaused) return Effect.void
    return isPaused ? paused(info) : resumed
  }
  return Effect.suspend(() => api.consumerInfo(stream.name, durable)).pipe(
    Effect.flatMap(see),
    Effect.catchAll((failure) => {
      if (isNotFound(failure)) onBroken({ reason: "ConsumerDeleted", detail: failure.message })
      return Effect.logDebug("The consumer could not be looked at", failure.message)
    }),
    Effect.delay(interval),
    Effect.forever,
    Effect.annotateLogs("consumer", durable)
  )
}

const paused = ({ config }: ConsumerInfo) =>
  Effect.logWarning("Somebody has paused the consumer on the server: nothing new is read until then").pipe(
    Effect.annotateLogs("until", config.pause_until ?? "it is resumed")
  )

const resumed = Effect.logInfo("The consumer is not paused any more")

/** How often it is looked at whether a paused consumer goes on. */
const pausedCheck = "2 seconds"

/** Waits as long as the consumer is paused: until then nothing of what is outstanding comes back. */
export const untilResumed = <E>(inspect: Effect.Effect<ConsumerInfo, E>): Effect.Effect<ConsumerInfo, E> =>
  Effect.flatMap(inspect, (info) =>
    info.paused !== true
      ? Effect.succeed(info)
      : paused(info).pipe(
        Effect.zipRight(Effect.repeat(Effect.delay(inspect, pausedCheck), { until: (info) => info.paused !== true })),
        Effect.tap(resumed)
      ))
