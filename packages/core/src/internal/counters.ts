import type { FlightView, Outcome, State } from "../Observer.js"

/**
 * What a subscription counts, as flights go from state to state. Plain fields: they are written for every message.
 *
 * @internal
 */
export class Counters {
  received = 0
  handled = 0
  retried = 0
  restarted = 0
  deadLettered = 0
  dropped = 0
  held = 0
  undecodable = 0
  unknownType = 0
  tombstones = 0
  failed = 0
  lost = 0
  otherPartition = 0
  suspects = 0
  poisoned = 0
  parked = 0
  released = 0
  discarded = 0

  transition(flight: FlightView & { readonly isHeld: boolean }, from: State | undefined): void {
    if (from === undefined) this.received++
    else if (flight.state === "ended") {
      if (flight.isHeld) this.held--
      const field = fields[flight.outcome!]
      if (field !== undefined) this[field]++
    }
  }
}

const fields: { readonly [O in Outcome]?: "handled" | "deadLettered" | "dropped" | "failed" | "lost" | "parked" } = {
  handled: "handled",
  "dead-lettered": "deadLettered",
  dropped: "dropped",
  failed: "failed",
  lost: "lost",
  parked: "parked"
}
