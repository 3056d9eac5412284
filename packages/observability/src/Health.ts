/**
 * Whether a bus gets on, and if not, what keeps it from that. Live and ready are told apart: ready is a bus that is connected, subscribed and
 * moving. It watches the bus and its transport, and asks no broker. `docs/observability.md` says what each reason means and what to do.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import { causeInWords } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Finding, Level, Reason } from "./Finding.js"
import { Awake } from "./internal/Awake.js"
import { BusWatch } from "./internal/BusWatch.js"
import { nameOf } from "./internal/Causes.js"
import { Connections } from "./internal/Connections.js"
import { finding } from "./internal/finding.js"
import type { Limits } from "./internal/HealthLimits.js"
import * as LoopDelay from "./internal/LoopDelay.js"
import { valuesOf } from "./internal/options.js"
import type { Block } from "./internal/Watchdog.js"
import * as Watchdog from "./internal/Watchdog.js"

/**
 * How it stands.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  /** Whether the process can still get on by itself. If not, starting it again is all that helps. */
  readonly isLive: boolean
  /** Whether all buses are connected, subscribed and moving: there is no critical finding. */
  readonly isReady: boolean
  /** The critical ones first. */
  readonly findings: ReadonlyArray<Finding>
  /** The longest delay of the event loop in the last minute, in seconds. */
  readonly eventLoopDelay: number
}

/**
 * What can be set. Bounds have room for a bus that is busy: smaller ones make more noise.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** How often it looks. Default: 5 seconds. */
  readonly interval?: Duration.DurationInput | undefined
  /** A handler may run for so long, an aggregate be tried again, and a partition with something to do stand still. Default: 5 minutes. */
  readonly stalledAfter?: Duration.DurationInput | undefined
  /** The same for single subscriptions. Undefined: `stalledAfter`. */
  readonly stalledAfterOf?:
    | ((subscription: { readonly topic: string; readonly group: string }) => Duration.DurationInput | undefined)
    | undefined
  /** What fails and is tried again may last for so long: commits, leases, fetching, dead letters. Default: 10 seconds. */
  readonly failingAfter?: Duration.DurationInput | undefined
  /** The group of a new subscription may take so long to settle. Until then the subscription is `NotSubscribed`. Default: 1 minute. */
  readonly unsettledAfter?: Duration.DurationInput | undefined
  /** No broker may be reached for so long. Default: 10 seconds. */
  readonly disconnectedAfter?: Duration.DurationInput | undefined
  /** The event loop may stand still for so long. Default: 5 seconds. */
  readonly blockedAfter?: Duration.DurationInput | undefined
  /** Of so long the shares of messages that are given up are told. Default: 1 minute. */
  readonly window?: Duration.DurationInput | undefined
  /** So many messages have to be given up within `window` to be a flood. Default: 20. */
  readonly floodFrom?: number | undefined
  /** And this part of all that have ended. Default: 0.5. */
  readonly floodShare?: number | undefined
  /** Topics that have to be subscribed to, with a group or any. Default: none, as all that was subscribed to is watched anyway. */
  readonly expects?: ReadonlyArray<string | { readonly topic: string; readonly group?: string | undefined }> | undefined
  /** How bad each reason is. `"ignored"`: it is no finding. Default: as the page for operators has it. */
  readonly levels?: { readonly [R in Reason]?: Level | "ignored" | undefined } | undefined
  /** The reasons with which the process is not live, because only starting it again helps. Default: `["Broken"]`. */
  readonly fatal?: ReadonlyArray<Reason> | undefined
  /**
   * Whether a thread of its own notices that the event loop stands still, and writes a line to stderr meanwhile: nobody else can. `"quiet"`:
   * without the line. Default: `true`.
   */
  readonly watchdog?: boolean | "quiet" | undefined
  /** Runs at each change, one after the other, and beside the looking. A failure is logged. */
  readonly onChange?: ((report: Report) => Effect.Effect<unknown, unknown>) | undefined
}

/**
 * Something else that is watched.
 *
 * @since 0.1.0
 * @category models
 */
export interface Other {
  /** What is wrong with it now. Synchronous; `now` is in milliseconds since the epoch. */
  readonly find: (now: number) => ReadonlyArray<Finding>
  /** A subscription of its own. That it does not stand yet is no finding. */
  readonly subscription?: { readonly topic: string; readonly group: string } | undefined
}

/**
 * The health of the buses of an application.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** How it stands now. It looks, which needs no request to a broker. */
  readonly check: Effect.Effect<Report>
  /** As it was seen last. */
  readonly last: Effect.Effect<Report>
  /** The reports from now on, at each change of what is found: a sliding view of the newest 256. */
  readonly changes: Stream.Stream<Report>
  /** For what else is watched: what it answers is a part of each report. It ends with the scope. */
  readonly add: (other: Other) => Effect.Effect<void, never, Scope.Scope>
  /** The observer of the buses and their transports. */
  readonly observer: Observer.Service
}

/**
 * The health of the buses of an application; `layer` watches them.
 *
 * @since 0.1.0
 * @category tags
 */
export class Health extends Context.Tag("@effect-eventbus/observability/Health")<Health, Service>() {}

/**
 * Watches the buses that its `observer` is provided to, until the scope ends. Wrong options fail, all at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Service, InvalidConfiguration, Scope.Scope> =>
  Effect.gen(function*() {
    const values = yield* valuesOf("health", spec, options, { numbers, others: unchecked })
    const runtime = yield* Effect.runtime<never>()
    const warn = (message: string) => void Runtime.runFork(runtime)(Effect.logWarning(message))
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const bounds = boundsOf(values, options, warn)
    const awake = new Awake(bounds.interval, now())
    const limits: Limits = { ...bounds, elapsed: (since) => awake.elapsed(since, now()) }
    const loopDelay = yield* LoopDelay.measured
    const watchdog = options.watchdog === false
      ? undefined
      : yield* Watchdog.make(limits.blockedAfter, options.watchdog !== "quiet")
    const connections = new Connections(now)
    const buses = new Set<BusWatch>()
    const others = new Set<Other>()
    const broken = new WeakSet<Other>()
    const expected = (options.expects ?? []).map((one) =>
      typeof one === "string" ? { topic: one, group: undefined } : { topic: one.topic, group: one.group }
    )
    const changes = yield* Effect.acquireRelease(PubSub.sliding<Report>(256), PubSub.shutdown)
    const one = yield* Effect.makeSemaphore(1)
    let last = reportOf([finding("NotSubscribed", now(), { since: now(), message: noBus })], options, 0)

    const find = Effect.gen(function*() {
      awake.look(now())
      const optional = Array.from(others, ({ subscription }) => subscription ?? [])
        .flat().map(({ group, topic }) => `${topic}/${group}`)
      const found = yield* Effect.forEach(buses, (bus) => bus.look(limits, expected, optional))
      const at = now()
      const stuck = watchdog?.last()
      return [
        ...found.flat(),
        ...connections.look(limits, at),
        ...(buses.size === 0 ? [finding("NotSubscribed", at, { since: at, message: noBus })] : []),
        ...(stuck === undefined ? [] : stuckActor(stuck, limits, at)),
        ...Array.from(others, (other) => checked(other, at)).flat()
      ]
    })
    /** A user's check that throws must not keep anything else from being told. */
    const checked = (other: Other, at: number): ReadonlyArray<Finding> => {
      try {
        return other.find(at)
      } catch (thrown) {
        if (!broken.has(other)) {
          warn(
            `A check that was added to the health threw (${
              nameOf(Cause.die(thrown))
            }), and is left out. This is said once for each`
          )
        }
        broken.add(other)
        return []
      }
    }
    const look = one.withPermits(1)(Effect.gen(function*() {
      const before = last
      last = reportOf(yield* find, options, loopDelay())
      if (keyOf(before) === keyOf(last)) return last
      yield* changes.publish(last)
      if (before.isReady !== last.isReady) yield* logged(last)
      return last
    }))

    const { onChange } = options
    if (onChange !== undefined) yield* tell(yield* PubSub.subscribe(changes), onChange)
    const looking = Effect.catchAllCause(look, (cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.failCause(cause)
        : Effect.logWarning("The health can't be looked at, and is looked at again", cause))
    yield* Effect.forkScoped(Effect.interruptible(Effect.repeat(looking, Schedule.spaced(limits.interval))))

    return {
      check: look,
      last: Effect.sync(() => last),
      changes: Stream.fromPubSub(changes),
      add: (other) =>
        Effect.asVoid(
          Effect.acquireRelease(Effect.sync(() => others.add(other)), () => Effect.sync(() => others.delete(other)))
        ),
      observer: {
        event: (event) => connections.tell(event),
        forBus: (bus) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const watch = new BusWatch(bus, watchdog, now)
              buses.add(watch)
              return watch
            }),
            (watch) => Effect.sync(() => buses.delete(watch))
          )
      }
    }
  })

/**
 * Watches the bus and the transport that it is provided to: `EventBus.layer.pipe(Layer.provide(transport), Layer.provideMerge(Health.layer()))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Health | Observer.Observer, InvalidConfiguration> =>
  Layer.unwrapScoped(
    Effect.map(make(options), (health) => Layer.merge(Layer.succeed(Health, health), Observer.layer(health.observer)))
  )

const anyTime = { zero: true, infinite: true } as const

const spec = {
  interval: ConfigSpec.duration({ default: "5 seconds", description: "How often it looks." }),
  stalledAfter: ConfigSpec.duration({ default: "5 minutes", description: "What is stalled.", ...anyTime }),
  failingAfter: ConfigSpec.duration({ default: "10 seconds", description: "What is failing.", ...anyTime }),
  unsettledAfter: ConfigSpec.duration({ default: "1 minute", description: "What does not settle.", ...anyTime }),
  disconnectedAfter: ConfigSpec.duration({ default: "10 seconds", description: "What is disconnected.", ...anyTime }),
  blockedAfter: ConfigSpec.duration({ default: "5 seconds", description: "What is blocked.", infinite: true }),
  window: ConfigSpec.duration({ default: "1 minute", description: "Of what the shares are.", infinite: true })
}
const numbers = { floodFrom: { least: 0 }, floodShare: { least: 0 } }
const unchecked = ["stalledAfterOf", "expects", "levels", "fatal", "watchdog", "onChange"]

const boundsOf = (
  values: ConfigSpec.Service<typeof spec>,
  options: Options,
  warn: (message: string) => void
): Omit<Limits, "elapsed"> => {
  const stalledAfter = Duration.toMillis(values.stalledAfter)
  const { stalledAfterOf } = options
  let isSaid = false
  const stalledAfterFor = (subscription: { readonly topic: string; readonly group: string }): number => {
    try {
      return Duration.toMillis(stalledAfterOf?.(subscription) ?? stalledAfter)
    } catch (thrown) {
      if (!isSaid) {
        warn(
          `stalledAfterOf of the health threw (${nameOf(Cause.die(thrown))}), so stalledAfter counts. This is said once`
        )
      }
      isSaid = true
      return stalledAfter
    }
  }
  return {
    interval: Duration.toMillis(values.interval),
    stalledAfter: stalledAfterFor,
    failingAfter: Duration.toMillis(values.failingAfter),
    unsettledAfter: Duration.toMillis(values.unsettledAfter),
    disconnectedAfter: Duration.toMillis(values.disconnectedAfter),
    blockedAfter: Duration.toMillis(values.blockedAfter),
    window: Duration.toMillis(values.window),
    floodFrom: options.floodFrom ?? 20,
    floodShare: options.floodShare ?? 0.5
  }
}

const noBus = "No bus runs: none has begun yet, or it has ended"

const reportOf = (found: ReadonlyArray<Finding>, options: Options, eventLoopDelay: number): Report => {
  const findings = found.flatMap((one) => {
    const level = options.levels?.[one.reason] ?? one.level
    return level === "ignored" ? [] : [{ ...one, level }]
  }).sort((a, b) => Number(b.level === "critical") - Number(a.level === "critical"))
  const { fatal = ["Broken"] } = options
  return {
    isLive: !findings.some(({ reason }) => fatal.includes(reason)),
    isReady: findings.every(({ level }) => level !== "critical"),
    findings,
    eventLoopDelay
  }
}

/** What makes a report another one. */
const keyOf = ({ findings }: Report): string =>
  findings.map(({ aggregateId, group, level, partition, reason, topic, transport }) =>
    JSON.stringify([reason, level, transport, topic, group, partition, aggregateId])
  ).sort().join()

/** It has ended when somebody can ask. So it is told for a while, and it is seen at least once. */
const stuckActor = ({ duration, endedAt, last }: Block, limits: Limits, now: number) => {
  const ago = performance.now() - endedAt
  if (ago > 2 * limits.interval) return []
  const name = last?.subscription.split("/")
  const group = name?.pop()
  return [
    finding("StuckActor", now, {
      message:
        `The event loop stood still for ${
          Math.round(duration / 100) / 10
        } s: code that never waits kept it from everything` +
        (last === undefined
          ? ""
          : `. The handler that had started last is the one of ${last.subscription}, partition ${last.partition}, offset ${last.offset}`),
      since: now - ago - duration,
      topic: name?.join("/"),
      group,
      partition: last?.partition,
      offset: last?.offset,
      aggregateId: last?.aggregateId
    })
  ]
}

const logged = ({ findings, isReady }: Report): Effect.Effect<void> => {
  if (isReady) return Effect.logInfo("The bus is ready")
  const [first] = findings
  const { group, message, partition, reason, topic, transport } = first!
  return Effect.logWarning(`The bus is not ready: ${message}`).pipe(
    Effect.annotateLogs(Object.fromEntries(
      Object.entries({ reason, transport, topic, group, partition, findings: findings.length })
        .filter(([, value]) => value !== undefined)
    ))
  )
}

const tell = (own: Parameters<typeof Stream.fromQueue<Report>>[0], onChange: NonNullable<Options["onChange"]>) =>
  Effect.forkScoped(
    Effect.interruptible(Stream.runForEach(Stream.fromQueue(own), (report) =>
      Effect.catchAllCause(
        Effect.suspend(() => onChange(report)),
        (cause) =>
          Cause.isInterruptedOnly(cause)
            ? Effect.failCause(cause as Cause.Cause<never>)
            : Effect.logError(`onChange of the health failed: ${causeInWords(cause)}`)
      )))
  )
