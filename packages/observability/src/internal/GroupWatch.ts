import type { Observer, Transport } from "@effect-eventbus/core"
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { Finding, Reason } from "../Finding.js"
import { finding as makeFinding, type Told } from "./finding.js"
import type { Limits } from "./HealthLimits.js"
import { PartitionWatch } from "./PartitionWatch.js"

/** So many findings of the same reason a subscription has at most; the first ones tell how many there are. */
const maxFindings = 5

/** While its messages wait for a bound that moves, a partition may stand still for so many times as long. */
const queueing = 4

/** What was counted until a time. */
interface Sample {
  readonly at: number
  readonly ended: number
  readonly givenUp: number
  readonly exhausted: number
}

/** Nobody fails here: somebody or something keeps the subscription from going on. */
const atOnce: ReadonlySet<Reason> = new Set(["Broken", "Paused", "CircuitOpen", "GuardStopped"])

const reasons: { readonly [K in Transport.ProblemKind]: Reason } = {
  commit: "CommitFailing",
  fetch: "FetchFailing",
  lease: "LeaseFailing",
  group: "GroupUnsettled",
  "dead-letter": "DeadLetterFailing",
  right: "RightMissing",
  paused: "Paused",
  circuit: "CircuitOpen",
  guard: "GuardStopped",
  broken: "Broken"
}

/**
 * What is watched of one subscription. `transition` is called for every message, so it is plain code on plain fields; all else
 * happens at a look.
 *
 * @internal
 */
export class GroupWatch {
  /** The flights whose handler has started, in that order, and when. */
  private readonly started = new ChurningMap<Observer.FlightView, number>()
  private readonly held = new Map<Observer.FlightView, number>()
  private ended = 0
  private givenUp = 0
  private exhausted = 0
  /** Of the window that is told of, the oldest first. */
  private readonly samples: Array<Sample>
  /** The bounds at which something waits. */
  private readonly waiting = new Set<string>()
  private waitedAt = -Infinity
  private readonly partitions = new Map<number, PartitionWatch>()
  private readonly problems = new Map<string, number>()
  private disconnectedSince: number | undefined

  constructor(readonly topic: string, readonly group: string, now: number) {
    this.samples = [{ at: now, ended: 0, givenUp: 0, exhausted: 0 }]
  }

  transition(flight: Observer.FlightView): void {
    switch (flight.state) {
      case "running":
        if (!this.started.has(flight)) this.started.set(flight, flight.since)
        return
      case "held":
        if (!this.held.has(flight)) this.held.set(flight, flight.since)
        return
      case "ended":
        this.started.delete(flight)
        if (this.held.size > 0) this.held.delete(flight)
        this.ended++
        if (isGivenUp(flight)) this.givenUp++
    }
  }

  restartsExhausted(): void {
    this.exhausted++
  }

  bound(key: string, isReached: boolean): void {
    if (isReached) this.waiting.add(key)
    else this.waiting.delete(key)
  }

  /** Whether nothing of it is left: its subscription has ended. */
  get isIdle(): boolean {
    return this.started.size === 0
  }

  /** What is wrong now. `status` is undefined where the transport can't tell. */
  look(status: Transport.SourceStatus | undefined, limits: Limits, isBusBound: boolean, now: number): Array<Finding> {
    const found: Array<Finding> = []
    const { group, topic } = this
    const add = (reason: Reason, told: Told) => {
      found.push(makeFinding(reason, now, { ...told, topic, group }))
    }
    this.sample(now, limits)
    const bound = limits.stalledAfter(this)
    if (isBusBound || this.waiting.size > 0) this.waitedAt = now
    // What has waited for a permit is late for a while after nobody waits any more.
    const isWaiting = limits.elapsed(this.waitedAt) <= bound
    const isKept = status?.problems.some(({ kind }) => kind === "circuit" || kind === "guard") === true
    this.handlers(bound, isWaiting || isKept, limits, add)
    if (status !== undefined) {
      const moves = isWaiting && this.hasEndedWithin(bound, limits)
      this.partitionsOf(status, moves ? bound * queueing : bound, limits, now, add)
      this.problemsOf(status, limits, now, add)
      this.connection(status, limits, now, add)
    }
    this.givingUp(limits, add)
    return found
  }

  /** Handlers that hang, or are tried again and again, and messages that are held. */
  private handlers(
    bound: number,
    isWaiting: boolean,
    { elapsed }: Limits,
    add: (reason: Reason, told: Told) => void
  ): void {
    const stalled: Array<readonly [Observer.FlightView, number, string]> = []
    for (const flight of this.started.keys()) {
      const began = this.started.get(flight)!
      // Those behind it began later.
      if (elapsed(began) <= bound) break
      if (this.held.has(flight)) continue
      const { state } = flight
      const hangs = state === "running" || state === "dead-lettering" || state === "parking"
      if (hangs && elapsed(flight.since) > bound) {
        stalled.push([
          flight,
          flight.since,
          state === "running"
            ? "its handler has not ended"
            : state === "parking"
            ? "its letter is not written"
            : "its dead letter is not published"
        ])
      } else if (!hangs || flight.attempt > 1) {
        // It may wait for a permit that others give back.
        if (!isWaiting) stalled.push([flight, began, `it fails, and is tried again (attempt ${flight.attempt})`])
      }
    }
    tell(add, "Stalled", stalled)
    tell(add, "Held", Array.from(this.held, ([flight, since]) => [flight, since, "it is held: its aggregate waits"]))
  }

  private partitionsOf(
    { partitions, problems }: Transport.SourceStatus,
    bound: number,
    { elapsed }: Limits,
    now: number,
    add: (reason: Reason, told: Told) => void
  ): void {
    const isPaused = problems.some(({ kind }) => kind === "paused" || kind === "circuit" || kind === "guard")
    let count = 0
    for (const status of partitions) {
      let watch = this.partitions.get(status.partition)
      if (watch === undefined) this.partitions.set(status.partition, watch = new PartitionWatch())
      watch.see(status, now)
      const still = isPaused ? undefined : watch.standstill(elapsed, bound)
      if (still === undefined) continue
      // A message that is held keeps the watermark where it is. That is said of the message, as long as others go on, or there are none.
      const goesOn = still.what === "watermark" || status.position >= (status.end ?? 0)
      if (goesOn && this.isHeld(status)) continue
      if (++count > maxFindings) continue
      const { partition, position, watermark } = status
      const end = status.end ?? position
      add("Stalled", {
        message: still.what === "partition"
          ? `Partition ${partition} stands still: ${end - watermark} of its offsets are to be done`
          : `The oldest message in hand of partition ${partition} is not finished: its watermark stands still`,
        since: still.since,
        partition,
        offset: watermark
      })
    }
    // Somebody else has the partition.
    for (const known of this.partitions.keys()) {
      if (!partitions.some(({ partition }) => partition === known)) this.partitions.delete(known)
    }
  }

  private isHeld({ partition, watermark }: Transport.PartitionStatus): boolean {
    for (const flight of this.held.keys()) {
      if (flight.partition === partition && flight.offset === watermark) return true
    }
    return false
  }

  /** By what was seen: the wall clock may jump. */
  private problemsOf(
    { problems }: Transport.SourceStatus,
    limits: Limits,
    now: number,
    add: (reason: Reason, told: Told) => void
  ): void {
    const present = new Set<string>()
    for (const { kind, message } of problems) {
      const reason = kind === undefined ? "FetchFailing" : reasons[kind]
      if (present.has(reason)) continue
      present.add(reason)
      const since = this.problems.get(reason) ?? now
      this.problems.set(reason, since)
      const after = atOnce.has(reason) ? 0 : limits.failingAfter
      if (limits.elapsed(since) >= after) add(reason, { message, since })
    }
    for (const reason of this.problems.keys()) if (!present.has(reason)) this.problems.delete(reason)
  }

  private connection(
    { isConnected }: Transport.SourceStatus,
    limits: Limits,
    now: number,
    add: (reason: Reason, told: Told) => void
  ): void {
    if (isConnected) {
      this.disconnectedSince = undefined
      return
    }
    const since = this.disconnectedSince ??= now
    if (limits.elapsed(since) < limits.disconnectedAfter) return
    add("Disconnected", { message: "No broker that serves the subscription can be reached", since })
  }

  /** Whether a large part of what has ended lately was given up. */
  private givingUp(limits: Limits, add: (reason: Reason, told: Told) => void): void {
    const first = this.samples[0]!
    const ended = this.ended - first.ended
    const givenUp = this.givenUp - first.givenUp
    if (givenUp >= limits.floodFrom && givenUp >= ended * limits.floodShare) {
      add("DeadLetterFlood", {
        message: `${givenUp} of the last ${ended} messages were given up (dead-lettered, parked, dropped or failed)`,
        since: first.at,
        count: givenUp
      })
    }
    const exhausted = this.exhausted - first.exhausted
    if (exhausted > 0) {
      add("RestartsExhausted", {
        message: `${exhausted} messages were given up because their handlers died at each restart`,
        since: first.at,
        count: exhausted
      })
    }
  }

  private sample(now: number, limits: Limits): void {
    const { ended, exhausted, givenUp, samples } = this
    // Looks that somebody asks for come at any time.
    if (now - samples.at(-1)!.at >= limits.interval) samples.push({ at: now, ended, givenUp, exhausted })
    while (samples.length > 1 && now - samples[1]!.at >= limits.window) samples.shift()
  }

  private hasEndedWithin(bound: number, { elapsed }: Limits): boolean {
    const before = this.samples.filter(({ at }) => elapsed(at) >= bound).at(-1) ?? this.samples[0]!
    return this.ended > before.ended
  }
}

const tell = (
  add: (reason: Reason, told: Told) => void,
  reason: Reason,
  flights: ReadonlyArray<readonly [Observer.FlightView, number, string]>
): void => {
  for (const [flight, since, what] of flights.slice(0, maxFindings)) {
    const { aggregateId, offset, partition, topic } = flight
    const of = aggregateId === undefined ? "" : ` of ${aggregateId}`
    add(reason, {
      message: `The message ${topic}[${partition}]@${offset}${of}: ${what}`,
      since,
      partition,
      offset,
      aggregateId,
      count: flights.length
    })
  }
}

/** What is parked behind a message that failed has not begun, and is not given up. */
const isGivenUp = ({ attempt, outcome }: Observer.FlightView): boolean =>
  outcome === "dead-lettered" || outcome === "dropped" || outcome === "failed" || (outcome === "parked" && attempt > 0)
