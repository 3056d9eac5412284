import type { Aside } from "../control/paused.js"
import type { Flight } from "../flight.js"
import type { Member } from "./member.js"

/** A message that has failed so often as the probe is not preferred any more: perhaps only this one does not get through. */
const patience = 3

/**
 * More probes of one message are not counted.
 *
 * @internal
 */
export const maxProbesOfOne = 1_000_000

/**
 * A message that probes next.
 *
 * @internal
 */
export interface Chosen {
  readonly flight: Flight
  readonly aside: Aside
  /** It has probed in vain several times, and so have all others that wait. */
  readonly isDoubtful: boolean
}

/**
 * The message that probes next: one that has failed by this circuit, and has probed least often, because it surely asks the dependency. It is the
 * first of its aggregate. Undefined: there is none.
 *
 * @internal
 */
export const choose = (
  members: ReadonlySet<Member>,
  circuit: object
): Chosen | undefined => {
  let found: Chosen | undefined
  let best = Infinity
  for (const { book: { paused }, canProbe, isClosing } of members) {
    // What something else holds as well can't begin.
    if (!canProbe || isClosing || paused === undefined || paused.holders.size > 1) continue
    for (const aside of paused.asides.values()) {
      const [flight] = aside.flights
      if (flight === undefined || aside.pause !== undefined || flight.isAside || flight.verdict !== undefined) continue
      const rank = rankOf(flight, circuit)
      if (rank >= best || flight.state === "ended" || !flight.carrier.mayBegin()) continue
      best = rank
      found = { flight, aside, isDoubtful: rank >= patience && flight.trial !== undefined }
      if (rank === 0) return found
    }
  }
  return found
}

/** What its trial knows of a message that has probed or failed. */
interface Probed {
  readonly probes?: number
  readonly failedBy?: object | undefined
}

/** What a process may have died with waits for its turn before it begins, and may not begin at all. */
const rankOf = ({ sentry, trial }: Flight, circuit: object): number => {
  const { failedBy, probes = 0 } = trial as Probed | undefined ?? {}
  return probes + (failedBy === circuit ? 0 : patience) + (sentry === undefined ? 0 : patience)
}
