/**
 * Judges what all processes of a run saw together, by the oracles of the test kit. What they can't know is added here: when
 * brokers and the network were disturbed, and so how old a duplicate may be.
 */
import type * as History from "@effect-eventbus/testing/History"
import * as Oracles from "@effect-eventbus/testing/Oracles"
import { Ages } from "./Ages.js"
import type { Circumstances, Outage } from "./Circumstances.js"
import type { Entry } from "./Log.js"

export interface Verdict {
  /** Events that the broker has confirmed. */
  readonly published: number
  /** Different events that were finished. */
  readonly handled: number
  /** Published and never finished. */
  readonly lost: number
  /** Started again after they were finished. */
  readonly duplicates: number
  /** Of them: those whose delivery said that they may be. */
  readonly announced: number
  /** Beyond rule 5: not announced, too many for one take-over, or finished long before the end of their owner. */
  readonly excess: number
  /** How long before its owner's end the oldest of the duplicates was finished, in ms. */
  readonly oldestDuplicateMs: number
  /** Of the order: skips, steps back within an epoch, starts by an owner that was taken over from. */
  readonly violations: number
  /** Two handlers of one aggregate at once. */
  readonly overlaps: number
  readonly plainPublished: number
  readonly plainLost: number
  readonly plainTwice: number
  /** How often a process did not get to run for half a second and more, because the machine was busy. */
  readonly stalls: number
  /** The first findings, for people. */
  readonly examples: ReadonlyArray<string>
}

/** For how long a process that was suspended may still overlap with its successor (rule 12), in ms. */
const grace = 1_000

const ended: Partial<Record<Entry["kind"], History.Ended["outcome"]>> = {
  F: "finished",
  T: "failed",
  I: "interrupted"
}

/** What says how a process did and what it has parked: no part of what the oracles judge. */
const isAside = ({ kind }: Entry): boolean => kind === "W" || kind === "K" || kind === "L"

const toHistory = (entry: Entry): History.Entry => {
  const { aggregate, epoch, kind, maybeDuplicate, process, sequence } = entry
  const occurrence = { at: entry.at / 1e6, process, aggregate, sequence }
  const outcome = ended[kind]
  if (outcome !== undefined) return { kind: "ended", ...occurrence, epoch, outcome }
  return kind === "S" || kind === "O"
    ? { kind: "started", ...occurrence, epoch, maybeDuplicate }
    : { kind: "published", ...occurrence, outcome: kind === "U" ? "unknown" : "confirmed" }
}

const downs = (outages: ReadonlyArray<Outage>): ReadonlyArray<History.Entry> =>
  outages.flatMap(({ from, process, to, why }): ReadonlyArray<History.Entry> => {
    if (why === "end") return []
    const down = { kind: "down", at: from / 1e6, process, cause: why === "kill" ? "killed" : "suspended" } as const
    return to === Number.POSITIVE_INFINITY ? [down] : [down, { kind: "up", at: to / 1e6, process }]
  })

/** A process that did not get to run was suspended, by whomever. */
const stallOf = ({ at, process, sequence }: Entry): Outage => ({
  process,
  from: at - sequence * 1e6,
  to: at,
  why: "suspend"
})

export const judge = (log: ReadonlyArray<Entry>, given: Circumstances): Verdict => {
  const stalls = log.filter(({ kind }) => kind === "W").map(stallOf)
  const circumstances = { ...given, outages: [...given.outages, ...stalls] }
  const sorted = log.filter((entry) => !isAside(entry)).sort((a, b) => a.at - b.at)
  const out = downs(circumstances.outages)
  const isPlain = ({ kind }: Entry) => kind === "O" || kind === "Q"
  const envelopes = sorted.filter((entry) => !isPlain(entry))
  const plain = sorted.filter(isPlain).map(toHistory)
  const { findings, ...counts } = Oracles.judge([...out, ...envelopes.map(toHistory)], { grace })
  const twice = Oracles.atMostOnce([...out, ...plain]).findings.filter(({ kind }) => kind === "twice")
  const ages = new Ages(circumstances)
  for (const entry of envelopes) ages.hear(entry)
  const of = (...oracles: ReadonlyArray<Oracles.OracleName>) =>
    findings.filter(({ kind, oracle }) => kind !== "lost" && oracles.includes(oracle)).length
  const published = plain.filter(({ kind }) => kind === "published") as ReadonlyArray<History.Published>
  const handled = new Set(plain.flatMap((entry) => entry.kind === "started" ? [entry.sequence] : []))
  return {
    published: counts.published,
    handled: counts.finished,
    lost: findings.filter(({ kind }) => kind === "lost").length,
    duplicates: counts.duplicates,
    announced: counts.announced,
    excess: of("duplicates") + ages.late.length,
    oldestDuplicateMs: Math.round(ages.oldest / 1e6),
    violations: of("order", "atLeastOnce"),
    overlaps: of("overlap"),
    plainPublished: published.length,
    plainLost: published.filter(({ sequence }) => !handled.has(sequence)).length,
    plainTwice: twice.length,
    stalls: stalls.length,
    examples: [...[...findings, ...twice].map(({ explanation, kind }) => `${kind}: ${explanation}`), ...ages.late]
      .slice(0, 20)
  }
}
