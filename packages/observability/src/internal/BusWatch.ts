import type { Observer } from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Finding } from "../Finding.js"
import { finding } from "./finding.js"
import { GroupWatch } from "./GroupWatch.js"
import type { Limits } from "./HealthLimits.js"
import type { Watchdog } from "./Watchdog.js"

/** So many subscriptions are watched. */
const maxGroups = 1_000

/**
 * What is watched of one bus, as its observer.
 *
 * @internal
 */
export class BusWatch implements Observer.Service {
  /** By subscription, which is `topic/group`. */
  private readonly groups = new Map<string, GroupWatch>()
  private readonly waiting = new Set<string>()
  /** Most messages are of the same subscription as the one before. */
  private lastName: string | undefined
  private last: GroupWatch | undefined

  constructor(
    private readonly bus: Observer.Bus,
    private readonly watchdog: Watchdog | undefined,
    private readonly now: () => number
  ) {}

  readonly transition = (flight: Observer.FlightView): void => {
    const { state } = flight
    if (state === "running") {
      const { aggregateId, offset, partition, subscription } = flight
      this.watchdog?.started(subscription, partition, offset, aggregateId)
    }
    if (state === "queued") return
    this.groupOf(flight.subscription, flight.group)?.transition(flight)
  }

  readonly event = (event: Observer.Event): void => {
    if (event._tag === "GivenUp") {
      const { failure } = event
      if (failure._tag !== "EnvelopeFailure" || failure.restarts === 0 || Cause.isFailure(failure.cause)) return
      if (!Cause.isDie(failure.cause)) return
      for (const watch of this.groups.values()) {
        if (watch.group === failure.group && watch.topic === failure.position.topic) watch.restartsExhausted()
      }
    } else if (event._tag === "Bound" && event.bound !== "mailbox") {
      const key = `${event.bound}/${event.partition ?? ""}`
      if (event.subscription !== undefined) return this.groups.get(event.subscription)?.bound(key, event.isReached)
      if (event.isReached) this.waiting.add(key)
      else this.waiting.delete(key)
    }
  }

  private groupOf(subscription: string, group: string): GroupWatch | undefined {
    if (this.lastName === subscription) return this.last
    let watch = this.groups.get(subscription)
    if (watch === undefined && this.groups.size < maxGroups) {
      watch = new GroupWatch(subscription.slice(0, -group.length - 1), group, this.now())
      this.groups.set(subscription, watch)
    }
    this.lastName = subscription
    this.last = watch
    return watch
  }

  /** What is wrong now. A subscription that can't say how it stands keeps nobody else from it. */
  look(
    limits: Limits,
    expected: ReadonlyArray<{ readonly topic: string; readonly group: string | undefined }>,
    /** Subscriptions that need not stand. */
    optional: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<Finding>> {
    return Effect.map(
      Effect.forEach(this.bus.subscriptions(), (subscription) =>
        subscription.status.pipe(
          Effect.timeout("1 second"),
          Effect.catchAllCause((cause) =>
            Cause.isInterruptedOnly(cause) ? Effect.failCause(cause as Cause.Cause<never>) : Effect.succeed(undefined)
          ),
          Effect.map((status) => [`${subscription.topic}/${subscription.group}`, subscription, status] as const)
        ), { concurrency: "unbounded" }),
      (all) => {
        const now = this.now()
        const names = new Set<string>()
        const found: Array<ReadonlyArray<Finding>> = []
        for (const [name, { group }, status] of all) {
          names.add(name)
          found.push(this.groupOf(name, group)?.look(status, limits, this.waiting.size > 0, now) ?? [])
        }
        for (const [name, watch] of this.groups) {
          if (names.has(name)) continue
          // A replay has no status.
          if (!watch.isIdle) found.push(watch.look(undefined, limits, this.waiting.size > 0, now))
          else {
            this.groups.delete(name)
            if (this.lastName === name) this.lastName = undefined
          }
        }
        found.push(this.missing(limits, expected, optional, names, now))
        return found.flat().map((finding) => ({ ...finding, transport: this.bus.transport }))
      }
    )
  }

  /** The subscriptions that don't stand yet, and those that are not there. */
  private missing(
    limits: Limits,
    expected: ReadonlyArray<{ readonly topic: string; readonly group: string | undefined }>,
    optional: ReadonlyArray<string>,
    names: ReadonlySet<string>,
    now: number
  ): ReadonlyArray<Finding> {
    const starting = this.bus.starting().filter(({ group, topic }) => !optional.includes(`${topic}/${group}`))
    const absent = expected.filter(({ group, topic }) =>
      !starting.some((one) => one.topic === topic && (group ?? one.group) === one.group) &&
      !Array.from(names).some((name) =>
        group === undefined ? name.startsWith(`${topic}/`) : name === `${topic}/${group}`
      )
    )
    return [
      ...starting.map(({ group, since, topic }) => {
        const isLate = limits.elapsed(since) >= limits.unsettledAfter
        return finding(isLate ? "GroupUnsettled" : "NotSubscribed", now, {
          topic,
          group,
          since,
          message: isLate
            ? `The subscription of ${topic}/${group} does not stand yet: its group does not settle, or its broker does not answer`
            : `The subscription of ${topic}/${group} does not stand yet`
        })
      }),
      ...absent.map(({ group, topic }) =>
        finding("NotSubscribed", now, {
          topic,
          group,
          since: now,
          message: `Nobody has subscribed to ${topic}${group === undefined ? "" : ` as ${group}`}, or it has ended`
        })
      )
    ]
  }
}
