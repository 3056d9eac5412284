import type { Assignment, Problem } from "../../Transport.js"
import * as Closing from "../closing.js"
import { Lasting } from "../lasting.js"
import { ParkedLane } from "./lane.js"
import type { Host, Settings } from "./settings.js"

/** @internal */
export const writing = (): Lasting =>
  new Lasting("Letters can't be written to the store, so the messages of parked aggregates stay unfinished")

/** @internal */
export const reading = (): Lasting =>
  new Lasting(
    "The store of parked messages can't be read, so the partition does not begin, or its letters are not released"
  )

/**
 * What a subscription has parked, of the partitions that it owns.
 *
 * @internal
 */
export class Parking {
  readonly lanes = new Set<ParkedLane>()

  constructor(readonly settings: Settings) {}

  lane(host: Host, assignment: Assignment): ParkedLane {
    const lane = new ParkedLane(host, assignment, this.settings, () => this.lanes.delete(lane))
    this.lanes.add(lane)
    return lane
  }

  /** The lanes whose index is known. */
  get ready(): ReadonlyArray<ParkedLane> {
    return Array.from(this.lanes).filter(({ isClosing, isReady }) => isReady && !isClosing)
  }

  has(aggregate: string): boolean {
    for (const { parked } of this.lanes) if (parked.has(aggregate)) return true
    return false
  }

  keys(): ReadonlyArray<string> {
    return Array.from(this.lanes).flatMap(({ parked }) => Array.from(parked.keys()))
  }

  /** How many aggregates are parked now. */
  get aggregates(): number {
    return this.ready.reduce((sum, { parked }) => sum + parked.size, 0)
  }

  /** How many letters they have. */
  get letters(): number {
    let sum = 0
    for (const { parked } of this.ready) for (const { count } of parked.values()) sum += count
    return sum
  }

  /** What waits, and what fails. */
  get problems(): ReadonlyArray<Problem> {
    const { reading, writing } = this.settings
    const blocked = Array.from(this.lanes).flatMap((lane) => lane.blocked)
    const held = blocked.length === 0 ? [] : [{
      message:
        `The messages of ${blocked.length} parked aggregates wait, because they have as many letters as they may or the store refuses one: ${
          Closing.some(blocked.map(({ key }) => key))
        }`,
      since: Math.min(...blocked.map(({ since }) => since))
    }]
    return [...writing.problems, ...reading.problems, ...held]
  }
}
