import * as Effect from "effect/Effect"
import { expect, it } from "vitest"
import * as Chaos from "../src/Chaos.js"

const short = {
  seconds: 14,
  aggregates: 100,
  killEverySeconds: 3,
  maxWorkMs: 5,
  failureRate: 0.01,
  ahead: 1_000
} as const

const run = async (options: Omit<Chaos.Options, keyof typeof short>) => {
  const result = await Effect.runPromise(Chaos.run({ ...short, ...options }))
  process.stdout.write(`${JSON.stringify(result)}\n`)
  expect(result.examples).toEqual([])
  expect(result).toMatchObject({ lost: 0, violations: 0, overlaps: 0, plainTwice: 0, handled: result.published })
  expect(result.published).toBeGreaterThan(0)
  expect(result.kills).toBeGreaterThan(0)
  // Every duplicate said that it may be one.
  expect(result.announced).toBe(result.duplicates)
  // Rule 3: at most 100 plain messages for each kill.
  expect(result.plainLost).toBeLessThanOrEqual(100 * result.kills)
}

it(
  "kafka: instances of a group are killed and stopped, and nothing is lost, overtaken or overlaps",
  () => run({ transport: "kafka", instances: 2, partitions: 6, seed: 7, actions: ["kill", "stop"] }),
  150_000
)

it(
  "nats: the one instance of a group is killed and started again, and nothing is lost or overtaken",
  () => run({ transport: "nats", instances: 1, partitions: 1, seed: 7, actions: ["kill"] }),
  150_000
)
