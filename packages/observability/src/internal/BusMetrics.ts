import type { Observer, OrderChecker } from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Ages } from "./Ages.js"
import { nameOf } from "./Causes.js"
import { Bound, type Client, GroupMetrics } from "./GroupMetrics.js"
import { conventions, own } from "./Instruments.js"
import { RolloutMetrics } from "./RolloutMetrics.js"

type Update = (value: number) => void

/** So many topics that are published to are told apart. */
const maxTopics = 500
const other = "_OTHER"
/** So many subscriptions are told apart. */
const maxGroups = 500

/** How long a subscription may take to say how it stands, which it reads from memory. */
const patience = "1 second"

/** What is measured of publishing to one topic. */
class TopicMetrics {
  private readonly sent: Update
  private readonly failures: Update
  private readonly latency: Update
  private readonly backlog: Update
  private readonly backlogAge: Update
  private waiting = 0
  private readonly ages = new Ages()
  private readonly conventional: Readonly<Record<"sent" | "failed" | "duration" | "failedDuration", Update>> | undefined

  constructor({ convention, own: make }: Client, topic: string) {
    this.sent = make(own.sent, { topic })
    this.failures = make(own.publishFailures, { topic })
    this.latency = make(own.publishLatency, { topic })
    this.backlog = make(own.backlog, { topic })
    this.backlogAge = make(own.backlogAge, { topic })
    if (convention === undefined) return
    const labels = { "messaging.operation.name": "publish", "messaging.destination.name": topic }
    const failed = { ...labels, "error.type": "PublishFailed" }
    const send = { "messaging.operation.type": "send" }
    this.conventional = {
      sent: convention(conventions.sent, labels),
      failed: convention(conventions.sent, failed),
      duration: convention(conventions.operation, { ...labels, ...send }),
      failedDuration: convention(conventions.operation, { ...failed, ...send })
    }
  }

  begins(messages: number, now: number): void {
    this.waiting += messages
    this.ages.add(now)
    this.backlog(this.waiting)
  }

  ended(messages: number, began: number): void {
    this.waiting -= messages
    this.ages.remove(began)
    this.backlog(this.waiting)
  }

  sample(now: number): void {
    this.backlogAge(this.ages.oldest(now))
  }

  published({ duration, failed, succeeded }: Observer.Event & { readonly _tag: "Published" }): void {
    const seconds = duration / 1000
    this.latency(seconds)
    if (succeeded > 0) this.sent(succeeded)
    if (failed > 0) this.failures(failed)
    const { conventional } = this
    if (conventional === undefined) return
    if (succeeded > 0) conventional.sent(succeeded)
    if (failed > 0) conventional.failed(failed)
    if (failed > 0) conventional.failedDuration(seconds)
    else conventional.duration(seconds)
  }
}

/**
 * The metrics of one bus, as its observer.
 *
 * @internal
 */
export class BusMetrics implements Observer.Service {
  private readonly topics = new Map<string, TopicMetrics>()
  /** By subscription, which is `topic/group`. */
  private readonly groups = new Map<string, GroupMetrics>()
  private readonly bounds = new Map<string, Bound>()
  private readonly memory: Update
  private readonly rollouts: RolloutMetrics
  private readonly saidOf = new Set<string>()
  private readonly eventLoopDelay: Update
  /** Most messages are of the same subscription as the one before. */
  private lastName: string | undefined
  private last: GroupMetrics | undefined

  constructor(
    private readonly client: Client,
    private readonly bus: Observer.Bus,
    private readonly checker: OrderChecker.OrderChecker | undefined,
    private readonly now: () => number,
    private readonly loopDelay: () => number = () => 0
  ) {
    this.eventLoopDelay = client.own(own.eventLoopDelay, {})
    this.ofBus("actors")
    this.memory = client.own(own.memory, {})
    this.rollouts = new RolloutMetrics(client, bus.strategy)
  }

  readonly transition = (flight: Observer.FlightView, from: Observer.State | undefined, since: number): void => {
    this.groupOf(flight).transition(flight, from, since)
  }

  readonly event = (event: Observer.Event): void => {
    switch (event._tag) {
      case "Published":
        return this.topic(event.topic).published(event)
      case "Assigned":
      case "Revoked":
        return this.group(event.topic, event.group).moved(event._tag)
      case "Restarted":
        return this.groupOf(event.flight).restarted()
      case "Switched":
        return this.rollouts.switched(event.to, event.candidate)
      case "Rollout":
        return this.rollouts.changed(event.change)
      case "RolloutAnalysed":
        return this.rollouts.analysed(event.state, event.figures)
      case "Bound": {
        const { bound, isReached, partition = "", slot = "", subscription } = event
        const key = `${partition}/${slot}`
        if (subscription === undefined) return this.ofBus(bound).tell(key, isReached, this.now())
        return this.groups.get(subscription)?.bound(bound, key, isReached, this.now())
      }
    }
  }

  readonly onPublish = ({ messages, operation, topic }: Observer.PublishRequest): Observer.Publishing | undefined => {
    if (operation !== "publish") return undefined
    const metrics = this.topic(topic)
    const began = this.now()
    metrics.begins(messages.length, began)
    return { messages, ended: () => metrics.ended(messages.length, began) }
  }

  private topic(name: string): TopicMetrics {
    const found = this.topics.get(name)
    if (found !== undefined) return found
    // Topics may be made for single aggregates, and no metric may have a value of a label for each of these.
    if (this.topics.size >= maxTopics && name !== other) return this.topic(other)
    const metrics = new TopicMetrics(this.client, name)
    this.topics.set(name, metrics)
    return metrics
  }

  /** A bound of the whole bus. A metric has the same labels everywhere. */
  private ofBus(name: string): Bound {
    let bound = this.bounds.get(name)
    if (bound === undefined) {
      bound = new Bound(this.client, { topic: "", group: "", bound: name })
      this.bounds.set(name, bound)
    }
    return bound
  }

  /** By its subscription: the message's own topic may be one of many that match a pattern. */
  private groupOf({ group, subscription }: Observer.FlightView): GroupMetrics {
    if (this.lastName === subscription) return this.last!
    const found = this.group(subscription.slice(0, -group.length - 1), group)
    // The flights' own text: equal texts that are one are compared at once.
    this.lastName = subscription
    this.last = found
    return found
  }

  private group(topic: string, group: string): GroupMetrics {
    const name = `${topic}/${group}`
    let metrics = this.groups.get(name)
    if (metrics === undefined) {
      // Groups may be made for single users.
      if (this.groups.size >= maxGroups && group !== other) return this.group(other, other)
      metrics = new GroupMetrics(this.client, { topic, group }, this.checker)
      this.groups.set(name, metrics)
    }
    return metrics
  }

  /** The bus has ended: what it was has no value any more. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.rollouts.end()
    return this.sample
  })

  /** Sets the gauges to what is so now. A subscription that can't say how it stands keeps nobody else from it. */
  readonly sample: Effect.Effect<void> = Effect.suspend(() => {
    const each = Effect.forEach(
      this.bus.subscriptions(),
      (subscription) =>
        Effect.matchCauseEffect(
          Effect.timeout(Effect.all([subscription.stats, subscription.status, subscription.control.paused]), patience),
          {
            onFailure: (cause) => this.unknown(subscription, cause),
            onSuccess: ([stats, status, paused]) =>
              Effect.sync(() => {
                const metrics = this.group(subscription.topic, subscription.group)
                metrics.sample(stats, status, this.now(), Option.getOrUndefined(paused)?.since)
                return metrics
              })
          }
        ),
      { concurrency: "unbounded" }
    )
    this.eventLoopDelay(this.loopDelay())
    return Effect.map(each, (sampled) => {
      for (const metrics of this.groups.values()) {
        if (!sampled.some((one) => one === metrics)) metrics.sample(undefined, undefined, this.now())
      }
      for (const bound of this.bounds.values()) bound.sample(this.now())
      this.memory(process.memoryUsage.rss())
      for (const metrics of this.topics.values()) metrics.sample(this.now())
    })
  })

  /** It is said once for each subscription. */
  private unknown(
    { group, topic }: { readonly group: string; readonly topic: string },
    cause: Cause.Cause<unknown>
  ): Effect.Effect<undefined> {
    const name = `${topic}/${group}`
    if (Cause.isInterruptedOnly(cause) || this.saidOf.has(name)) return Effect.succeed(undefined)
    this.saidOf.add(name)
    return Effect.as(
      Effect.logWarning(`Subscription ${name} can't say how it stands, so its gauges are 0 (${nameOf(cause)})`),
      undefined
    )
  }
}
