/** The aggregates that fail for a time and are parked then. They are named so; all others are strangers to them. */
import * as Log from "./Log.js"
import type { Options } from "./Options.js"
import * as Random from "./Random.js"

const prefix = "patient-"

export const isPatient = (aggregate: string): boolean => aggregate.startsWith(prefix)

/** The aggregates of a run. */
export const names = (aggregates: number, patients: number): ReadonlyArray<string> =>
  Array.from({ length: aggregates }, (_, i) => i < patients ? `${prefix}${i}` : `order-${i}`)

/** When patients fail: times of the logs' clock, in nanoseconds. */
export interface Season {
  readonly from: number
  readonly to: number
}

/** From now on until about the end of the chaos. Undefined: nobody is parked. */
export const seasonOf = ({ areIll, patients, seconds }: Options): Season | undefined => {
  if (patients === 0) return undefined
  const from = Log.now()
  return { from, to: areIll ? from + (seconds + startMs / 1_000) * 1e9 : from }
}

/** What the instances take to start, and a little more. */
const startMs = 5_000

/** How long a patient is ill or well at least. */
const spell = 4e9

/** The first cause is typed, the second too, the third is a defect. */
export type Cause = 0 | 1 | 2

/** Why an aggregate fails now, decided by the seed. Undefined: it is well. */
export const illness = (seed: number, aggregate: string, { from, to }: Season): Cause | undefined => {
  const now = Log.now()
  if (now < from || now >= to || !isPatient(aggregate)) return undefined
  const turn = Math.floor((now - from) / spell + Random.at(seed, "turn", aggregate))
  const luck = Random.at(seed, "ill", aggregate, turn)
  return luck < 0.6 ? Math.min(2, Math.floor(luck * 5)) as Cause : undefined
}
