import type { State } from "../../Observer.js"
import type { Strategy } from "../../Strategy.js"
import type { Flight } from "../flight.js"
import type { Watcher } from "../watched.js"
import { groups, Sides } from "./meter.js"

/** A flight that was taken since the rollout began. */
interface Track {
  readonly takenAt: number
  begunAt: number | undefined
  readonly group: number
  hasFailed: boolean
  hasRestarted: boolean
}

/**
 * A message that has neither ended nor failed.
 *
 * @internal
 */
export interface Late {
  readonly subscription: string
  readonly group: number
  /** For how long it has been in hand or waiting, in milliseconds. */
  readonly age: number
}

/**
 * Measures the flights of both sides while a rollout runs. It keeps those that are under way, which are as bounded as flights are.
 *
 * @internal
 */
export class Probe implements Watcher {
  private readonly tracks = new Map<Flight, Track>()
  private sides = new Sides()
  /** When the last message began on the candidate. */
  lastOfCandidate: number | undefined

  constructor(
    private readonly isCandidate: (strategy: Strategy["Type"] | { readonly name: string }) => boolean,
    /** In milliseconds, as exact as can be: flights know their times to 10 ms only. */
    private readonly now: () => number
  ) {}

  transition(flight: Flight, from: State | undefined): void {
    if (from === undefined) {
      const group = groupOf(flight)
      this.tracks.set(flight, { takenAt: this.now(), begunAt: undefined, group, hasFailed: false, hasRestarted: false })
      return
    }
    const track = this.tracks.get(flight)
    if (track === undefined) return
    // What it needs is down, which says nothing of either side, nor does the time that it waits.
    if (flight.state === "waiting" && flight.waitsFor === "circuit") return void this.tracks.delete(flight)
    if (flight.state === "ended") this.tracks.delete(flight)
    const { mailbox } = flight
    if (mailbox === undefined) return
    const side = this.sides[this.isCandidate(mailbox.placement.strategy) ? "candidate" : "baseline"]
    if (from === "queued" && flight.state === "running") {
      track.begunAt = this.now()
      side.began(track.group, track.begunAt - track.takenAt)
    } else if (flight.state === "ended") {
      this.over(flight, track)
    } else if (from === "running" && !flight.hasCrashed && flight.lastCause !== undefined) {
      this.failed(flight, track)
    }
    if (flight.state === "held" || flight.state === "dead-lettering") this.failed(flight, track)
  }

  restarted(flight: Flight): void {
    const track = this.tracks.get(flight)
    const side = this.sideOf(flight)
    if (track === undefined || side === undefined) return
    track.hasRestarted = true
    side.restarts[track.group]!++
  }

  /** What was measured since the last call. */
  take(): Sides {
    const { sides } = this
    this.sides = new Sides()
    return sides
  }

  /** The messages of a side that are under way, and have neither failed nor crashed. */
  under(side: "baseline" | "candidate"): ReadonlyArray<Late> {
    const now = this.now()
    const late: Array<Late> = []
    for (const [flight, { group, hasFailed, hasRestarted, takenAt }] of this.tracks) {
      const { mailbox } = flight
      if (mailbox === undefined || hasFailed || hasRestarted) continue
      if (this.isCandidate(mailbox.placement.strategy) !== (side === "candidate")) continue
      late.push({ subscription: flight.subscription, group, age: now - takenAt })
    }
    return late
  }

  /** A flight has its message, and the rollout may be known for as long as the bus lives. */
  ended(): void {
    this.tracks.clear()
  }

  private sideOf({ mailbox }: Flight) {
    return mailbox && this.sides[this.isCandidate(mailbox.placement.strategy) ? "candidate" : "baseline"]
  }

  private over(flight: Flight, track: Track): void {
    const side = this.sideOf(flight)!
    const { outcome } = flight
    // It comes again.
    if (outcome === "unfinished") return
    side.ended++
    if (outcome === "lost") side.lost++
    else if (outcome === "dead-lettered" || outcome === "dropped" || outcome === "failed") this.failed(flight, track)
    else if (outcome === "handled" && track.begunAt !== undefined && !track.hasFailed && !track.hasRestarted) {
      const now = this.now()
      side.handled(flight.subscription, track.group, now - track.takenAt, now - track.begunAt)
    }
  }

  /** A message counts once. */
  private failed(flight: Flight, track: Track): void {
    if (track.hasFailed) return
    track.hasFailed = true
    this.sideOf(flight)!.errors[track.group]!++
  }
}

/** The aggregates of a side in groups. The hash is neither that of shares nor that of slots, so that each group has some of all. */
const groupOf = (flight: Flight): number => {
  const key = flight.key ?? ""
  let hash = flight.offset | 0
  if (key !== "") {
    hash = 0
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x5bd1e995)
  }
  hash ^= hash >>> 15
  return (Math.imul(hash, 0x2c1b3c6d) >>> 16) % groups
}
