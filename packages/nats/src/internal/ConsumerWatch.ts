/**
 * Looks from time to time at the consumer that is read from: whether somebody has changed it on the server, paused it, or deleted it.
 */
import * as Effect from "effect/Effect"
import { isNotFound } from "../NatsErrors.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import * as DurableConsumer from "./DurableConsumer.js"
import type { Intake } from "./Intake.js"
import type { Stream } from "./NatsStreams.js"
import type { Broken } from "./ReaderState.js"

/**
 * In milliseconds. A request for each partition: often enough for people, and seldom enough for a thousand partitions. All subscriptions of
 * the process look at the same time: their requests are written together.
 */
const defaultInterval = 10_000

/** Where it was done a moment early it is not done again at once. */
const untilNext = (interval: number): number => {
  const rest = interval - performance.now() % interval
  return rest < interval / 2 ? rest + interval : rest
}

export interface Options {
  readonly api: Api
  readonly stream: Stream
  readonly wanted: ConsumerConfig
  /** As it was when reading began. What the server imposes was said then, and changes nothing. */
  readonly found: ConsumerConfig
  /** In milliseconds. Default: 10 s. */
  readonly interval?: number | undefined
  /** What waits for the lane, and what it has; it is told how much the server has left. */
  readonly intake: Pick<Intake, "next" | "held" | "expected" | "tellLeft">
  /** Told until when it is paused; undefined: it is not any more. */
  readonly onPaused: (until: string | undefined) => void
  /** Reading begins again, and finds out what to do. */
  readonly onBroken: (broken: Broken) => void
}

export const run = (
  { api, found, intake, interval = defaultInterval, onBroken, onPaused, stream, wanted }: Options
): Effect.Effect<never> => {
  const durable = wanted.durable_name!
  const imposed = new Set(
    DurableConsumer.differences(found, wanted, stream).filter(DurableConsumer.canBeImposed).map(({ text }) => text)
  )
  let isPaused = false
  let [waited, isStuck]: [number | undefined, boolean] = [undefined, false]
  /** Nothing was taken since the last look. */
  const seeNext = Effect.suspend(() => {
    const { held, next } = intake
    const wasStuck = isStuck
    isStuck = next !== undefined && next === waited
    waited = next
    if (isStuck === wasStuck) return Effect.void
    return isStuck ? stuck(next!, held.size) : Effect.logInfo("The subscription takes messages again")
  })
  const see = (info: ConsumerInfo): Effect.Effect<void> => {
    const issues = DurableConsumer.differences(info.config, wanted, stream).map(({ text }) => text)
    if (issues.some((text) => !imposed.has(text))) {
      onBroken({ reason: "ConsumerChanged", detail: `it ${issues.join("; ")}` })
    }
    const wasPaused = isPaused
    isPaused = info.paused === true
    if (isPaused || wasPaused) onPaused(isPaused ? untilOf(info) : undefined)
    if (isPaused === wasPaused) return Effect.void
    return isPaused ? paused(info) : resumed
  }
  const ask = Effect.suspend(() => {
    const { expected } = intake
    return Effect.tap(
      api.consumerInfo(stream.name, durable),
      (info) => Effect.sync(() => intake.tellLeft(info.num_pending, expected))
    )
  })
  return ask.pipe(
    Effect.flatMap(see),
    Effect.catchAll((failure) => {
      if (isNotFound(failure)) onBroken({ reason: "ConsumerDeleted", detail: failure.message })
      return Effect.logDebug("The consumer could not be looked at", failure.message)
    }),
    Effect.zipRight(seeNext),
    (look) => Effect.suspend(() => Effect.delay(look, untilNext(interval))),
    Effect.forever,
    Effect.annotateLogs("consumer", durable)
  )
}

const stuck = (next: number, inHand: number) =>
  Effect.logWarning(
    "Nothing more is read: as many messages as may be unfinished wait in the subscription, perhaps behind one aggregate that is held or " +
      "retried. All others wait behind them"
  ).pipe(Effect.annotateLogs({ next, inHand }))

const untilOf = ({ config }: ConsumerInfo): string => config.pause_until ?? "it is resumed"

const paused = (info: ConsumerInfo) =>
  Effect.logWarning("Somebody has paused the consumer on the server: nothing new is read until then").pipe(
    Effect.annotateLogs("until", untilOf(info))
  )

const resumed = Effect.logInfo("The consumer is not paused any more")

/** How often it is looked at whether a paused consumer goes on. */
const pausedCheck = "2 seconds"

/** Waits as long as the consumer is paused: until then nothing of what is outstanding comes back. */
export const untilResumed = <E>(
  inspect: Effect.Effect<ConsumerInfo, E>,
  onPaused: Options["onPaused"]
): Effect.Effect<ConsumerInfo, E> =>
  Effect.flatMap(inspect, (info) => {
    onPaused(info.paused === true ? untilOf(info) : undefined)
    return info.paused !== true
      ? Effect.succeed(info)
      : paused(info).pipe(
        Effect.zipRight(Effect.repeat(Effect.delay(inspect, pausedCheck), { until: (info) => info.paused !== true })),
        Effect.tap(resumed),
        Effect.tap(() => onPaused(undefined))
      )
  })
