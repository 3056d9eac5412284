/**
 * How far the subscriptions of a bus are behind, by number and by time, with thresholds. It reads the `status` of the subscriptions, and
 * asks no broker.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { EventBus } from "@effect-eventbus/core/EventBus"
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import { causeInWords, type PartitionStatus, type SourceStatus } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Causes from "./internal/Causes.js"
import { LagEstimate } from "./internal/LagEstimate.js"
import { valuesOf } from "./internal/options.js"

/** How long a subscription may take to say how it stands, which it reads from memory. */
const patience = "1 second"

/**
 * How far a subscription is behind, over the partitions of this instance.
 *
 * @since 0.1.0
 * @category models
 */
export interface Reading {
  readonly topic: string
  readonly group: string
  /** Offsets between the oldest unfinished message and the end of the log. On NATS offsets of other subjects of the stream count, too. */
  readonly messages: number
  /** How old the oldest of these messages is at most, as far back as it was watched. */
  readonly age: Duration.Duration
  readonly isBehind: boolean
}

/**
 * A subscription has fallen behind a threshold, is below it again, or has ended while it was behind.
 *
 * @since 0.1.0
 * @category models
 */
export interface Change {
  readonly _tag: "Behind" | "CaughtUp" | "Ended"
  readonly reading: Reading
}

/**
 * What can be set.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** How often it looks. Default: 5 seconds. */
  readonly interval?: Duration.DurationInput | undefined
  /** A subscription is behind with more messages than this. Default: no such threshold. */
  readonly messages?: number | undefined
  /** A subscription is behind if its oldest unfinished message is older than this. Default: no such threshold. */
  readonly age?: Duration.DurationInput | undefined
  /** It has caught up at this part of both thresholds, so that nobody is told again and again around one. Default: 0.5. */
  readonly recoversAt?: number | undefined
  /** Runs at each change, one after the other, and beside the looking. A failure is logged. */
  readonly onChange?: ((change: Change) => Effect.Effect<unknown, unknown>) | undefined
}

/**
 * What is known of the lag of a bus.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** As it was seen last. A subscription whose transport has no `status` is not in it. */
  readonly readings: Effect.Effect<ReadonlyArray<Reading>>
  /** The changes from now on: a sliding view of the newest 256. */
  readonly changes: Stream.Stream<Change>
}

/**
 * The lag of a bus; `layer` watches it.
 *
 * @since 0.1.0
 * @category tags
 */
export class Lag extends Context.Tag("@effect-eventbus/observability/Lag")<Lag, Service>() {}

/**
 * Watches the bus until the scope ends. Wrong options fail, all at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Service, InvalidConfiguration, EventBus | Scope.Scope> =>
  Effect.gen(function*() {
    const { age, interval } = yield* valuesOf("lag", spec, options, { numbers, others: ["onChange"] })
    const bus = yield* EventBus
    const limits: Limits = {
      messages: options.messages ?? Number.POSITIVE_INFINITY,
      age: Duration.toMillis(age),
      recoversAt: options.recoversAt ?? 0.5
    }
    const changes = yield* Effect.acquireRelease(PubSub.sliding<Change>(256), PubSub.shutdown)
    const watched = new Map<string, Watched>()

    /** The subscriptions that can't say how it stands, and were named for that. */
    const unknown = new Set<string>()
    /** One that can't say how it stands, or does not answer, keeps nobody else from it. */
    const partitionsOf = (name: string, status: Effect.Effect<SourceStatus | undefined>) =>
      status.pipe(
        Effect.timeout(patience),
        Effect.map((found) => {
          unknown.delete(name)
          return found?.partitions
        }),
        Effect.catchAllCause((cause) => {
          if (Cause.isInterruptedOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
          if (unknown.has(name)) return Effect.succeed(undefined)
          unknown.add(name)
          return Effect.as(
            Effect.logWarning(
              `Subscription ${name} can't say how it stands, so its lag stays as it was seen last (${
                Causes.nameOf(cause)
              })`
            ),
            undefined
          )
        })
      )
    const look = Effect.gen(function*() {
      const all = yield* Effect.forEach(
        yield* bus.subscriptions,
        (subscription) => {
          const { group, topic } = subscription
          const name = `${topic}/${group}`
          return Effect.map(
            partitionsOf(name, subscription.status),
            (partitions) => ({ group, name, partitions, topic })
          )
        },
        { concurrency: "unbounded" }
      )
      const seen = new Set<string>()
      for (const { group, name, partitions, topic } of all) {
        seen.add(name)
        if (partitions === undefined) continue
        let one = watched.get(name)
        if (one === undefined) watched.set(name, one = new Watched(topic, group))
        const change = one.see(partitions, limits, yield* Clock.currentTimeMillis)
        if (change !== undefined) yield* changes.publish(change)
      }
      for (const [name, { reading }] of watched) {
        if (seen.has(name)) continue
        watched.delete(name)
        if (reading.isBehind) yield* changes.publish({ _tag: "Ended", reading })
      }
      for (const name of unknown) if (!seen.has(name)) unknown.delete(name)
    })

    const { onChange } = options
    if (onChange !== undefined) {
      const own = yield* PubSub.subscribe(changes)
      const tell = (change: Change) =>
        Effect.catchAllCause(Effect.suspend(() => onChange(change)), (cause) =>
          Cause.isInterruptedOnly(cause)
            ? Effect.failCause(cause as Cause.Cause<never>)
            : Effect.logError(`onChange of the lag failed: ${causeInWords(cause)}`))
      yield* Effect.forkScoped(Effect.interruptible(Stream.runForEach(Stream.fromQueue(own), tell)))
    }
    const looking = Effect.catchAllCause(look, (cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.failCause(cause)
        : Effect.logWarning("The lag can't be read, and is looked at again", cause))
    yield* Effect.forkScoped(
      Effect.interruptible(Effect.repeat(looking, Schedule.spaced(interval)))
    )
    return {
      readings: Effect.sync(() => Array.from(watched.values(), ({ reading }) => reading)),
      changes: Stream.fromPubSub(changes)
    }
  })

/**
 * Watches the bus that is below it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Lag, InvalidConfiguration, EventBus> =>
  Layer.scoped(Lag, make(options))

const spec = {
  interval: ConfigSpec.duration({ default: "5 seconds", description: "How often it looks." }),
  age: ConfigSpec.duration({
    default: Duration.infinity,
    description: "How old is too old.",
    zero: true,
    infinite: true
  })
}
const numbers = { messages: { least: 0 }, recoversAt: { least: 0, most: 1 } }

interface Limits {
  readonly messages: number
  /** In milliseconds. */
  readonly age: number
  readonly recoversAt: number
}

class Watched {
  reading: Reading
  private readonly estimates = new Map<number, LagEstimate>()

  constructor(topic: string, group: string) {
    this.reading = { topic, group, messages: 0, age: Duration.zero, isBehind: false }
  }

  see(partitions: ReadonlyArray<PartitionStatus>, limits: Limits, now: number): Change | undefined {
    let messages = 0
    let age = 0
    for (const { end, partition, watermark } of partitions) {
      if (end === undefined) continue
      let estimate = this.estimates.get(partition)
      if (estimate === undefined) this.estimates.set(partition, estimate = new LagEstimate())
      messages += Math.max(0, end - watermark)
      age = Math.max(age, estimate.see(end, watermark, now))
    }
    // Somebody else has the partition: what was seen of it is no news when it comes back.
    for (const known of this.estimates.keys()) {
      if (!partitions.some(({ partition }) => partition === known)) this.estimates.delete(known)
    }
    const was = this.reading.isBehind
    const part = was ? limits.recoversAt : 1
    const isBehind = messages > limits.messages * part || age > limits.age * part
    this.reading = { ...this.reading, messages, age: Duration.millis(age), isBehind }
    return was === isBehind ? undefined : { _tag: isBehind ? "Behind" : "CaughtUp", reading: this.reading }
  }
}
