import type { Delivery, Failure, Observer, Transport } from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as FiberId from "effect/FiberId"

/**
 * What one group did with one message. A message that comes again has another flight, and the present one counts.
 *
 * @internal
 */
export class Entry {
  flight: Observer.FlightView | undefined
  failure: Failure.EnvelopeFailure | Failure.PlainFailure | undefined
  readonly startedAt: Array<number> = []
  readonly causes: Array<Cause.Cause<unknown>> = []
  /** The attempts of earlier flights. */
  private earlier = 0
  /** Whether the last of `startedAt` may be an attempt that runs. */
  private isOpen = false

  constructor(readonly partition: number, readonly offset: number) {}

  get attempts(): number {
    return this.earlier + (this.flight?.attempt ?? 0)
  }

  get outcome(): Observer.Outcome | undefined {
    return this.flight?.outcome
  }

  get isHeld(): boolean {
    return this.outcome === undefined && this.failure?._tag === "EnvelopeFailure" && this.failure.policy._tag === "Hold"
  }

  /** An unfinished message comes again. */
  get isFinal(): boolean {
    return this.outcome !== undefined && this.outcome !== "unfinished"
  }

  get isRunning(): boolean {
    return this.flight?.state === "running"
  }

  transition(flight: Observer.FlightView, from: Observer.State | undefined, now: number): void {
    if (from === undefined) {
      this.earlier = this.attempts
      this.flight = flight
      this.failure = undefined
    }
    if (from === "running" && this.isOpen) this.ended(flight)
    // From these it runs only to report how the flight ends.
    if (flight.state !== "running" || from === "dead-lettering" || from === "parking") return
    this.isOpen = true
    this.startedAt.push(now)
  }

  private ended({ lastCause, outcome }: Observer.FlightView): void {
    this.isOpen = false
    // A flight also runs while it is decoded or reported, or asks for a permit: then no attempt has begun.
    if (this.startedAt.length > this.attempts) this.startedAt.pop()
    else if (outcome === "unfinished" || outcome === "lost") this.causes.push(Cause.interrupt(FiberId.none))
    else if (outcome !== "handled" && lastCause !== undefined) this.causes.push(lastCause)
  }
}

/**
 * A message that was published; without a receipt it is not written yet, or could not be.
 *
 * @internal
 */
export interface Written {
  readonly topic: Transport.TopicSpec
  readonly message: Transport.OutgoingMessage
  receipt: Transport.Receipt | undefined
}

/** @internal */
export interface Handled {
  readonly event: unknown
  readonly delivery: Delivery.Delivery
}

/**
 * What one group did with the messages of one topic.
 *
 * @internal
 */
export class Group {
  readonly entries = new Map<string, Entry>()
  /** In the order in which they were handled. */
  readonly handled: Array<Handled> = []
  /** How many subscriptions of this bus read for the group now. */
  active = 0

  constructor(readonly topic: string, readonly name: string, readonly first: number) {}

  entry(partition: number, offset: number): Entry {
    const key = `${partition}@${offset}`
    let entry = this.entries.get(key)
    if (entry === undefined) this.entries.set(key, entry = new Entry(partition, offset))
    return entry
  }

  find(partition: number, offset: number): Entry | undefined {
    return this.entries.get(`${partition}@${offset}`)
  }
}

/**
 * What happened on a bus, as its observer sees it: kept for as long as the test's layer lives.
 *
 * @internal
 */
export class Ledger implements Observer.Service {
  /** Rises with everything that happens. */
  version = 0
  /** How many calls of `publish` have not been answered. */
  publishing = 0
  readonly written: Array<Written> = []
  private readonly groups = new Map<string, Map<string, Group>>()

  constructor(private readonly clock: Clock.Clock) {}

  readonly transition = (flight: Observer.FlightView, from: Observer.State | undefined): void => {
    this.version++
    const group = this.group(flight.topic, flight.group)
    group.entry(flight.partition, flight.offset).transition(flight, from, this.clock.unsafeCurrentTimeMillis())
    if (flight.outcome === "handled" && !flight.isTombstone) {
      group.handled.push({ event: flight.event, delivery: flight.delivery() })
    }
  }

  readonly event = (event: Observer.Event): void => {
    this.version++
    if (event._tag !== "GivenUp") return
    const { group, position } = event.failure
    this.group(position.topic, group).entry(position.partition, position.offset).failure = event.failure
  }

  group(topic: string, name: string, first = 0): Group {
    let groups = this.groups.get(topic)
    if (groups === undefined) this.groups.set(topic, groups = new Map())
    let group = groups.get(name)
    if (group === undefined) groups.set(name, group = new Group(topic, name, first))
    return group
  }

  groupsOf(topic: string): ReadonlyArray<Group> {
    return Array.from(this.groups.get(topic)?.values() ?? [])
  }

  all(): ReadonlyArray<Group> {
    return Array.from(this.groups.values(), (groups) => Array.from(groups.values())).flat()
  }

  writtenAt(receipt: Transport.Receipt): Written | undefined {
    return this.written.find(({ receipt: at }) =>
      at !== undefined && at.topic === receipt.topic && at.partition === receipt.partition &&
      at.offset === receipt.offset
    )
  }

  /** What a group has not finished, of what was published through this bus and what was handed over. */
  unfinished(group: Group): ReadonlyArray<Entry> {
    for (const { receipt } of this.written.slice(group.first)) {
      if (receipt?.topic === group.topic) group.entry(receipt.partition, receipt.offset)
    }
    return Array.from(group.entries.values()).filter((entry) => !entry.isFinal)
  }

  get isRunning(): boolean {
    return this.all().some((group) => Array.from(group.entries.values()).some((entry) => entry.isRunning))
  }
}
