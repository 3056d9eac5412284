import { describe, expect, it } from "@effect/vitest"
import { groups, Sides } from "../src/internal/rollout/meter.js"
import * as Settings from "../src/internal/rollout/settings.js"
import { Trial } from "../src/internal/rollout/trial.js"

/** A small generator of random numbers (mulberry32): a run can be repeated. */
const random = (seed: number) => () => {
  seed = seed + 0x6d2b79f5 | 0
  let t = Math.imul(seed ^ seed >>> 15, 1 | seed)
  t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t
  return ((t ^ t >>> 14) >>> 0) / 2 ** 32
}

interface Traffic {
  readonly share: number
  /** Messages per second, of both sides together. */
  readonly rate: number
  /** Each side has so many aggregates; a message's time is multiplied by its aggregate's own factor, spread by this. */
  readonly aggregates: number
  readonly own: number
  /** How widely times are spread: the standard deviation of their logarithm. */
  readonly spread: number
  readonly errors: number
  readonly restarts: number
  /** So many seconds between pauses of the process, which hit both sides. */
  readonly pauses: number
}

const usual: Traffic = {
  share: 0.1,
  rate: 50,
  aggregates: 400,
  own: 0,
  spread: 1,
  errors: 0,
  restarts: 0,
  pauses: Infinity
}

interface Fault {
  readonly slower?: number
  readonly errors?: number
  readonly restarts?: number
}

const { settings } = Settings.make({ candidate: "actor-pool", steps: [0.1] })
const seconds = 10

/** Intervals of two sides, of which the candidate may have a fault. */
const simulated = (traffic: Traffic, next: () => number) => {
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())
  const times = Array.from({ length: 4_096 }, () => 5 * Math.exp(normal() * traffic.spread))
  const side = (share: number) =>
    Array.from({ length: Math.max(1, Math.round(traffic.aggregates * share)) }, () => ({
      group: Math.floor(next() * groups),
      factor: Math.exp(normal() * traffic.own)
    }))
  const all = { baseline: side(1 - traffic.share), candidate: side(traffic.share) }
  return (fault: Fault = {}): Sides => {
    const sides = new Sides()
    const count = Math.round(traffic.rate * seconds * (0.5 + next()))
    // For half a second all messages take as long as the pause.
    const isPaused = next() < seconds / traffic.pauses
    for (let i = 0; i < count; i++) {
      const name = next() < traffic.share ? "candidate" : "baseline"
      const meter = sides[name]
      const { factor, group } = all[name][Math.floor(next() * all[name].length)]!
      meter.began(group, 0.1)
      meter.ended++
      const its = name === "candidate" ? fault : {}
      const luck = next()
      if (luck < (its.errors ?? traffic.errors)) meter.errors[group]!++
      else if (luck > 1 - (its.restarts ?? traffic.restarts)) meter.restarts[group]!++
      else {
        const pause = isPaused && i * 20 < count ? 200 * next() : 0
        const time = times[Math.floor(next() * times.length)]! * factor * (its.slower ?? 1) + pause
        meter.handled("orders/group", group, time, time)
      }
    }
    return sides
  }
}

const nothing = { baseline: [], candidate: [] }

/** How often a rollout of identical sides is rolled back in so many hours. It begins again after each time, with other aggregates. */
const alarms = (traffic: Traffic, hours: number, seed: number) => {
  const next = random(seed)
  const fired: Array<string> = []
  let failed = 0
  for (let hour = 0; hour < hours; hour++) {
    // A rollout takes some hours, and the next one has others on its sides.
    const trial = new Trial(settings)
    const interval = simulated(traffic, next)
    for (let i = 0; i < 3_600 / seconds; i++) {
      const failures = trial.add(interval(), nothing, undefined)
      failed += failures.length
      const firing = failures.filter((failure) => trial.hasFired(failure))
      if (firing.length === 0) continue
      fired.push(...firing.map(({ trigger }) => trigger))
      break
    }
  }
  return { fired, failed }
}

const scenarios: ReadonlyArray<readonly [name: string, traffic: Traffic]> = [
  ["a tenth, times that are widely spread", usual],
  ["a half, aggregates that differ", { ...usual, share: 0.5, own: 0.5 }],
  ["a tenth of few aggregates that differ much", { ...usual, aggregates: 60, own: 1 }],
  ["both sides with 2 % errors and 6 % restarts", { ...usual, share: 0.3, errors: 0.02, restarts: 0.06 }],
  ["pauses of the process each minute", { ...usual, share: 0.3, pauses: 60 }]
]

describe("a rollout with the defaults", () => {
  // A thousand take some minutes: TEST_FALSE_ALARM_HOURS=1000.
  const hours = Number(process.env.TEST_FALSE_ALARM_HOURS ?? (process.env.TEST_LONG === "1" ? 50 : 5))

  for (const [at, [name, traffic]] of scenarios.entries()) {
    const each = hours / scenarios.length
    it(`of identical sides is rarely rolled back (${name}, ${each} of ${hours} simulated hours)`, () => {
      const { failed, fired } = alarms(traffic, each, 1 + at)
      console.log(
        `${name}: ${fired.length} false alarms in ${each} h (${fired.join(", ")}); ` +
          `${failed} of ${each * 360} intervals failed`
      )
      expect(fired.length).toBeLessThanOrEqual(1)
    }, 1_800_000)
  }

  const faults: ReadonlyArray<readonly [trigger: string, fault: Fault]> = [
    ["p99", { slower: 2 }],
    ["restarts", { restarts: 0.2 }],
    ["errors", { errors: 0.1 }]
  ]
  for (const [trigger, fault] of faults) {
    it(`is rolled back within a minute of a fault, by its trigger ${trigger}`, () => {
      const rounds = 100
      let late = 0
      let sum = 0
      for (let round = 0; round < rounds; round++) {
        const next = random(1_000 + round)
        const trial = new Trial(settings)
        const interval = simulated({ ...usual, rate: 100, own: 0.3, errors: 0.002 }, next)
        for (let i = 0; i < 6; i++) trial.add(interval(), nothing, undefined)
        let intervals = 0
        let isOver = false
        while (!isOver && intervals < 30) {
          intervals++
          const firing = trial.add(interval(fault), nothing, undefined).filter((failure) => trial.hasFired(failure))
          isOver = firing.some((failure) => failure.trigger === trigger)
          expect(firing.filter((failure) => failure.trigger !== trigger)).toEqual([])
        }
        sum += intervals * seconds
        if (intervals * seconds > 60) late++
      }
      console.log(`${trigger}: ${sum / rounds} s on average, ${late} of ${rounds} after more than a minute`)
      expect(late).toBeLessThanOrEqual(rounds / 10)
    })
  }
})
