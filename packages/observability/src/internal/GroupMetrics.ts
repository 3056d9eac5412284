import type { Observer, OrderChecker, Subscription, Transport } from "@effect-eventbus/core"
import { Ages } from "./Ages.js"
import * as Causes from "./Causes.js"
import { conventions, type Definition, type Labels, own } from "./Instruments.js"

/**
 * Makes the instruments of one client: with its transport and its id as labels.
 *
 * @internal
 */
export interface Client {
  readonly transport: string
  readonly own: (definition: Definition, labels: Labels) => (value: number) => void
  /** Undefined: the metrics of the semantic conventions are not wanted. */
  readonly convention: ((definition: Definition, labels: Labels) => (value: number) => void) | undefined
}

type Update = (value: number) => void

/** So many names of errors are told apart for one partition. */
const maxErrors = 32

const nothing: Update = () => {}

/** What is counted for one partition, by the semantic conventions. */
class PartitionMetrics {
  readonly consumed: Update
  readonly processed: Update
  private readonly failed = new Map<string, Update>()

  constructor(
    private readonly make: (definition: Definition, labels: Labels) => Update,
    private readonly labels: Labels
  ) {
    this.consumed = make(conventions.consumed, labels)
    this.processed = make(conventions.process, labels)
  }

  failedWith(error: string): Update {
    const name = this.failed.size < maxErrors || this.failed.has(error) ? error : "_OTHER"
    let update = this.failed.get(name)
    if (update === undefined) {
      update = this.make(conventions.process, { ...this.labels, "error.type": name })
      this.failed.set(name, update)
    }
    return update
  }
}

/** They are exposed from the beginning, so that the first one is seen by a rate. */
const outcomes: ReadonlyArray<Observer.Outcome> = ["dead-lettered", "parked", "dropped", "failed"]

/** The gauges that are set when somebody looks. */
const sampled = [
  "actors",
  "circuitOpen",
  "held",
  "inbox",
  "lag",
  "oldest",
  "parkedAggregates",
  "parkedLetters",
  "partitions",
  "paused",
  "pausedAggregates",
  "pausedTime",
  "problems",
  "watermarkAge",
  "watermarkLag"
] as const

const states: ReadonlyArray<Observer.State> = [
  "settling",
  "queued",
  "running",
  "waiting",
  "held",
  "dead-lettering",
  "parking"
]

/**
 * What is measured of one topic and group. It is called for every message, so it is plain code on plain fields.
 *
 * @internal
 */
export class GroupMetrics {
  private readonly received: Update
  private readonly latency: Update
  private readonly wait: Update
  private readonly handling: Update
  private readonly retries: Update
  private readonly duplicates: Update
  private readonly redeliveries: Update
  private readonly deadLetters: Update
  private readonly violations: Update
  private readonly restarts: Update
  private readonly assigned: Update
  private readonly revoked: Update
  private readonly handled: Update
  private readonly processed = new Map<Observer.Outcome, Update>()
  private readonly partitions: Array<PartitionMetrics | undefined> = []
  /** How many are in each state, and of the two that every message goes through in fields of their own. */
  private readonly counts = new Map<Observer.State, number>()
  private queued = 0
  private running = 0
  private readonly ages = new Ages()
  /** How many attempts were counted of messages that were tried again. */
  private readonly attempts = new WeakMap<Observer.FlightView, number>()
  private readonly bounds = new Map<string, Bound>()
  private readonly gauges: { readonly [name: string]: Update }
  private readonly inFlight: ReadonlyMap<Observer.State, Update>
  private readonly actorsEnded: Update
  private lastEnded = 0
  private owned = 0

  constructor(
    private readonly client: Client,
    private readonly labels: Labels,
    private readonly checker: OrderChecker.OrderChecker | undefined
  ) {
    const make = (definition: Definition) => client.own(definition, labels)
    this.received = make(own.received)
    this.latency = make(own.latency)
    this.wait = make(own.wait)
    this.handling = make(own.handling)
    this.retries = make(own.retries)
    this.duplicates = make(own.duplicates)
    this.redeliveries = make(own.redeliveries)
    this.deadLetters = make(own.deadLetters)
    this.violations = checker === undefined ? nothing : make(own.violations)
    this.restarts = make(own.restarted)
    this.assigned = make(own.assigned)
    this.revoked = make(own.revoked)
    this.actorsEnded = make(own.actorsEnded)
    this.handled = this.outcome("handled")
    for (const outcome of outcomes) this.outcome(outcome)
    // The transport counts them, and has no group to tell before the first.
    if (client.transport === "kafka") make(own.rebalances)
    if (client.transport === "nats") [own.takeOvers, own.leasesLost].forEach(make)
    this.inFlight = new Map(states.map((state) => [state, client.own(own.inFlight, { ...labels, state })]))
    this.gauges = Object.fromEntries(sampled.map((name) => [name, make(own[name])]))
  }

  transition(flight: Observer.FlightView, from: Observer.State | undefined, since: number): void {
    const { state } = flight
    if (from === undefined) this.taken(flight)
    else this.count(from, -1)
    if (from === "running") this.attempted(flight, flight.since - since)
    if (state === "ended") return this.ended(flight)
    this.count(state, 1)
    if (state === "running") this.begins(flight, from)
  }

  private count(state: Observer.State, by: number): void {
    if (state === "queued") this.queued += by
    else if (state === "running") this.running += by
    else this.counts.set(state, (this.counts.get(state) ?? 0) + by)
  }

  private taken(flight: Observer.FlightView): void {
    this.received(1)
    this.ages.add(flight.takenAt)
    this.partitionOf(flight)?.consumed(1)
    if (!flight.maybeDuplicate) return
    this.duplicates(1)
    // Only the delivery has it, and only what comes again has a count above one.
    if ((flight.delivery().deliveryCount ?? 1) > 1) this.redeliveries(1)
  }

  private begins(flight: Observer.FlightView, from: Observer.State | undefined): void {
    if (this.checker !== undefined) this.check(this.checker, flight)
    if (from === "queued") return this.wait((flight.since - flight.takenAt) / 1000)
    const { attempt } = flight
    if (
      from === "dead-lettering" || from === "parking" || attempt === 0 || (this.attempts.get(flight) ?? 0) >= attempt
    ) return
    // It may wait for a permit and begin once more without an attempt between.
    this.attempts.set(flight, attempt)
    this.retries(1)
  }

  private check(checker: OrderChecker.OrderChecker, flight: Observer.FlightView): void {
    const { aggregateId, epoch, group, offset, partition, topic } = flight
    if (aggregateId === undefined) return
    if (!checker.start({ aggregateId, epoch, group, offset, partition, topic })) this.violations(1)
  }

  /** The handler has stopped running, for one of the reasons that the next state shows. */
  private attempted(flight: Observer.FlightView, millis: number): void {
    const { outcome, state } = flight
    // What runs after a letter is `onFailure`.
    if (outcome === "dead-lettered" || outcome === "parked" || flight.attempt === 0) return
    const seconds = millis / 1000
    this.handling(seconds)
    const conventional = this.partitionOf(flight)
    if (conventional === undefined) return
    if (state === "ended" && (outcome === "handled" || outcome === "skipped")) conventional.processed(seconds)
    else conventional.failedWith(Causes.nameOf(flight.lastCause))(seconds)
  }

  private ended(flight: Observer.FlightView): void {
    this.ages.remove(flight.takenAt)
    const outcome = flight.outcome!
    if (outcome === "handled") this.handled(1)
    else this.outcome(outcome)(1)
    if (outcome === "dead-lettered") this.deadLetters(1)
    if (outcome !== "unfinished" && outcome !== "lost") {
      this.latency((flight.since - flight.takenAt) / 1000)
    }
  }

  private outcome(outcome: Observer.Outcome): Update {
    let update = this.processed.get(outcome)
    if (update === undefined) {
      update = this.client.own(own.processed, { ...this.labels, outcome })
      this.processed.set(outcome, update)
    }
    return update
  }

  private partitionOf({ partition }: Observer.FlightView): PartitionMetrics | undefined {
    const { convention } = this.client
    if (convention === undefined) return undefined
    return this.partitions[partition] ??= new PartitionMetrics(convention, {
      "messaging.operation.name": "process",
      "messaging.destination.name": this.labels["topic"]!,
      "messaging.consumer.group.name": this.labels["group"]!,
      "messaging.destination.partition.id": String(partition)
    })
  }

  restarted(): void {
    this.restarts(1)
  }

  moved(_tag: "Assigned" | "Revoked"): void {
    this.owned += _tag === "Assigned" ? 1 : -1
    if (_tag === "Assigned") this.assigned(1)
    else this.revoked(1)
  }

  /** `key` tells the bounds of the same name apart: of a partition each. */
  bound(bound: string, key: string, isReached: boolean, now: number): void {
    let found = this.bounds.get(bound)
    if (found === undefined) this.bounds.set(bound, found = new Bound(this.client, { ...this.labels, bound }))
    found.tell(key, isReached, now)
  }

  /** Sets what has a value at a time only. Without a subscription there is nothing any more. */
  sample(
    stats: Subscription.Stats | undefined,
    status: Transport.SourceStatus | undefined,
    now: number,
    pausedSince?: number | undefined
  ): void {
    for (const state of states) this.inFlight.get(state)!(this.counts.get(state) ?? 0)
    this.inFlight.get("queued")!(this.queued)
    this.inFlight.get("running")!(this.running)
    for (const bound of this.bounds.values()) bound.sample(now)
    const ended = stats?.endedActors ?? 0
    // Another subscription of the same topic and group has begun to count anew.
    const more = ended < this.lastEnded ? ended : ended - this.lastEnded
    if (more > 0) this.actorsEnded(more)
    this.lastEnded = ended
    const partitions = status?.partitions ?? []
    const behind = partitions.filter(({ position, watermark }) => position > watermark)
    this.set("oldest", this.ages.oldest(now))
    this.set("actors", stats?.actors ?? 0)
    this.set("held", stats?.held ?? 0)
    this.set("inbox", stats?.fullestMailbox ?? 0)
    this.set("partitions", this.owned)
    // By hand here, or at the broker.
    this.set(
      "paused",
      pausedSince !== undefined || status?.problems.some(({ kind }) => kind === "paused") === true ? 1 : 0
    )
    const isKept = status?.problems.some(({ kind }) => kind === "circuit" || kind === "guard") === true
    this.set("circuitOpen", isKept ? 1 : 0)
    this.set("parkedAggregates", stats?.parkedAggregates ?? 0)
    this.set("parkedLetters", stats?.parkedLetters ?? 0)
    this.set("pausedAggregates", stats?.pausedAggregates ?? 0)
    const since = Math.min(pausedSince ?? now, stats?.pausedSince ?? now)
    this.set("pausedTime", Math.max(0, now - since) / 1000)
    this.set("problems", status?.problems.length ?? 0)
    this.set("watermarkLag", sum(behind, ({ position, watermark }) => position - watermark))
    this.set("watermarkAge", behind.reduce((most, { movedAt }) => Math.max(most, now - movedAt), 0) / 1000)
    this.set("lag", sum(partitions, ({ end, watermark }) => end === undefined ? 0 : Math.max(0, end - watermark)))
  }

  private set(name: string, value: number): void {
    this.gauges[name]!(value)
  }
}

const sum = <A>(all: ReadonlyArray<A>, of: (one: A) => number): number => all.reduce((total, one) => total + of(one), 0)

/**
 * How often a bound was reached, and for how long something waited at it.
 *
 * @internal
 */
export class Bound {
  private readonly reached: Update
  private readonly seconds: Update
  private readonly waiting = new Set<string>()
  private since = 0

  constructor(client: Client, labels: Labels) {
    this.reached = client.own(own.bounds, labels)
    this.seconds = client.own(own.boundSeconds, labels)
  }

  tell(key: string, isReached: boolean, now: number): void {
    this.sample(now)
    if (!isReached) {
      this.waiting.delete(key)
      return
    }
    if (this.waiting.size === 0) this.since = now
    this.waiting.add(key)
    this.reached(1)
  }

  /** Counts the time until now. */
  sample(now: number): void {
    if (this.waiting.size > 0 && now > this.since) this.seconds((now - this.since) / 1000)
    this.since = now
  }
}
