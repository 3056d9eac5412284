/**
 * A message of one's own to a topic of its own and back: whether publishing and subscribing work, end to end. What it finds is a part of
 * `Health`.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { EventBus } from "@effect-eventbus/core/EventBus"
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Topic from "@effect-eventbus/core/Topic"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { Health } from "./Health.js"
import { nameOf } from "./internal/Causes.js"
import { finding } from "./internal/finding.js"
import { valuesOf } from "./internal/options.js"

/**
 * What can be set.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Its topic. All instances share it. Default: `"eventbus.probe"`. */
  readonly topic?: string | undefined
  /**
   * The group, which is this instance's own: each has to see its own messages. The broker keeps what a group leaves for as long as it does
   * for any other. Default: `probe-` and the name of the host, so two processes on one host need names of their own.
   */
  readonly group?: string | undefined
  /** How long it waits between two probes. Default: 2 minutes. */
  readonly interval?: Duration.DurationInput | undefined
  /** A probe that is not back after so long is missed. Default: 30 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /** So many in a row have to be missed for a warning. Default: 1. */
  readonly warnFrom?: number | undefined
  /** So many in a row have to be missed for the bus not to be ready. Default: 3. */
  readonly failFrom?: number | undefined
}

/**
 * How the probes go.
 *
 * @since 0.1.0
 * @category models
 */
export interface Reading {
  /** How many came back, and how many did not, since it began. */
  readonly returned: number
  readonly missed: number
  /** How many were missed in a row, up to now. */
  readonly missedInARow: number
  /** How long the last one that came back took. */
  readonly roundTrip: Duration.Duration | undefined
}

/**
 * What is known of the probes.
 *
 * @since 0.1.0
 * @category tags
 */
export class Probe extends Context.Tag("@effect-eventbus/observability/Probe")<
  Probe,
  { readonly reading: Effect.Effect<Reading> }
>() {}

/**
 * Probes until the scope ends. A topic that can't be subscribed to is a missed probe, and is tried again. Wrong options fail,
 * all at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Context.Tag.Service<Probe>, InvalidConfiguration, EventBus | Health | Scope.Scope> =>
  Effect.gen(function*() {
    const { interval, timeout } = yield* valuesOf("probe", spec, options, { numbers })
    const { failFrom = 3, warnFrom = 1 } = options
    const bus = yield* EventBus
    const health = yield* Health
    const topic = Topic.plain(options.topic ?? "eventbus.probe", { partitions: 1 })
    const group = options.group ?? `probe-${hostname().replace(/[^A-Za-z0-9_-]/g, "-")}`
    let reading: Reading = { returned: 0, missed: 0, missedInARow: 0, roundTrip: undefined }
    let missedSince = 0
    let why = ""
    /** The one that is on its way, and when it was sent. */
    let sent: { readonly id: string; readonly back: Deferred.Deferred<void> } | undefined

    const handle = (body: Uint8Array) =>
      Effect.suspend(() => {
        const id = new TextDecoder().decode(body)
        return sent?.id === id ? Deferred.succeed(sent.back, undefined) : Effect.void
      })
    const missed = (reason: string, since: number) =>
      Effect.sync(() => {
        if (reading.missedInARow === 0) missedSince = since
        why = reason
        reading = { ...reading, missed: reading.missed + 1, missedInARow: reading.missedInARow + 1 }
      })
    const probe = Effect.gen(function*() {
      const begun = yield* Clock.currentTimeMillis
      const id = randomUUID()
      const back = yield* Deferred.make<void>()
      sent = { id, back }
      const outcome = yield* bus.publish(topic, { body: id, key: id }).pipe(
        Effect.zipRight(Deferred.await(back)),
        Effect.timeoutOption(timeout),
        Effect.either
      )
      if (outcome._tag === "Left") return yield* missed(outcome.left.message, begun)
      if (Option.isNone(outcome.right)) {
        return yield* missed(`It did not come back within ${Duration.format(timeout)}`, begun)
      }
      const roundTrip = Duration.millis((yield* Clock.currentTimeMillis) - begun)
      reading = { ...reading, returned: reading.returned + 1, missedInARow: 0, roundTrip }
    })
    const subscribed = Effect.scoped(
      Effect.gen(function*() {
        const begun = yield* Clock.currentTimeMillis
        const ready = yield* bus.subscribe(topic, handle, { group, startFrom: "latest" }).pipe(
          Effect.timeoutOption(timeout),
          Effect.either
        )
        if (ready._tag === "Left" || Option.isNone(ready.right)) {
          yield* missed(ready._tag === "Left" ? ready.left.message : "Its group does not settle", begun)
          return yield* Effect.sleep(interval)
        }
        // A subscription that has broken brings nothing any more, so another one is made when several probes were missed.
        yield* Effect.repeat(Effect.zipRight(probe, Effect.sleep(interval)), {
          until: () => reading.missedInARow > 0 && reading.missedInARow % failFrom === 0
        })
      })
    )
    const guarded = Effect.catchAllCause(subscribed, (cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.failCause(cause)
        : Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => Effect.zipRight(missed(`It broke down (${nameOf(cause)})`, now), Effect.sleep(interval))
        ))
    yield* health.add({
      subscription: { topic: topic.name, group },
      find: (now) =>
        reading.missedInARow < warnFrom
          ? []
          : [finding("ProbeMissed", now, {
            level: reading.missedInARow < failFrom ? "warning" : "critical",
            message: `${reading.missedInARow} probes in a row did not come back. ${why}`,
            since: missedSince,
            topic: topic.name,
            group,
            count: reading.missedInARow
          })]
    })
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(guarded)))
    return { reading: Effect.sync(() => reading) }
  })

/**
 * Probes the bus that is below it, for the `Health` that is below it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Probe, InvalidConfiguration, EventBus | Health> =>
  Layer.scoped(Probe, make(options))

const spec = {
  topic: ConfigSpec.string({ default: "eventbus.probe", description: "Its topic." }),
  group: ConfigSpec.string({ description: "Its group." }),
  interval: ConfigSpec.duration({ default: "2 minutes", description: "Between two probes." }),
  timeout: ConfigSpec.duration({ default: "30 seconds", description: "When one is missed." })
}
const numbers = { warnFrom: { least: 1 }, failFrom: { least: 1 } }
