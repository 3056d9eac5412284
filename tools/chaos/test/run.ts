/** What the chaos tests share: a short run, and what must come out of every run. */
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import * as Chaos from "../src/Chaos.js"
import { defaults, defaultsOf, type Options } from "../src/Options.js"

export const run = async (signal: AbortSignal, options: Partial<Options> & Pick<Options, "transport">) => {
  const lines: Array<string> = []
  const since = performance.now()
  const say = (line: string) => lines.push(`${((performance.now() - since) / 1_000).toFixed(1)} s: ${line}`)
  const result = await Effect.runPromise(
    Chaos.run({
      ...defaults,
      ...defaultsOf[options.transport],
      seconds: 12,
      aggregates: 100,
      partitions: 6,
      killEverySeconds: 3,
      ahead: 1_000,
      // Other tests take the machine's time: nobody is to be put out of the group for that.
      sessionTimeoutMs: 4_000,
      seed: 7,
      ...options
    }, say).pipe(
      Effect.onError(() => Effect.sync(() => process.stdout.write(`${lines.join("\n")}\n`)))
    ),
    { signal }
  )
  process.stdout.write(`${lines.join("\n")}\n${JSON.stringify(result)}\n`)
  expect(result.examples).toEqual([])
  expect(result).toMatchObject({
    lost: 0,
    violations: 0,
    overlaps: 0,
    excess: 0,
    plainTwice: 0,
    slowStops: 0,
    handled: result.published
  })
  expect(result.published).toBeGreaterThan(0)
  expect(result.kills).toBeGreaterThan(0)
  // Rule 3: at most 100 plain messages for each kill. As many can be settled without an answer when a connection or the broker
  // breaks, or settled and not begun when an instance is suspended; where the partition is lost meanwhile, nobody may start them.
  const breaks = result.kills + result.suspensions + result.cuts + result.brokerRestarts
  expect(result.plainLost).toBeLessThanOrEqual(100 * breaks)
  return result
}
