/** The aggregates that fail for a time and are parked then. They are named so; all others are strangers to them. */
import * as Log from "./Log.js"
import type { Options } from "./Options.js"
import * as Random from "./Random.js"

const prefix = "patient-"

export const isPatient = (aggregate: string): boolean => aggregate.startsWith(prefix)

/** The aggregates of a run. */
export const names = (aggregates: number, patients: number): ReadonlyArray<string> =>
  Array.from({ length: aggregates }, (_, i) => i < patients ? `${prefix}${i}` : `order-${i}`)

/** When patients fail: times of the logs' clock, in nanoseconds. Its end comes when the run says so. */
export interface Season {
  readonly from: number
  to: number
}

/** From now on, or from a time on. Undefined: nobody is parked. */
export const seasonOf = (
  { areIll, patients }: Pick<Options, "areIll" | "patients">,
  from = Log.now()
): Season | undefined => {
  if (patients === 0) return undefined
  return { from, to: areIll ? Number.POSITIVE_INFINITY : from }
}

/** All are well from now on. */
export const heal = (season: Season | undefined): void => {
  if (season !== undefined) season.to = Math.min(season.to, Log.now())
}

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
