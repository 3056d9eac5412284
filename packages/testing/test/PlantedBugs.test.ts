import { expect, it } from "@effect/vitest"
import { Effect, Either, FastCheck as fc } from "effect"
import * as Bugs from "./model/Bugs.js"
import * as Schedule from "./model/Schedule.js"

const seed = Number(process.env.TEST_MODEL_SEED ?? 1)

/** Runs schedules until the oracle has found what it should, and answers after how many. */
const found = async (finding: string, bug: () => Bugs.Bug): Promise<number> => {
  const others = new Set<string>()
  const schedules = fc.sample(Schedule.long, { numRuns: 100, seed })
  for (let i = 0; i < schedules.length; i++) {
    const outcome = await Effect.runPromise(Effect.either(Schedule.run(schedules[i]!, bug())))
    const kinds = Either.isLeft(outcome)
      ? [String(outcome.left)]
      : outcome.right.findings.map(({ kind, oracle }) => `${oracle} ${kind}`)
    if (kinds.includes(finding)) return i + 1
    for (const kind of kinds) others.add(kind)
  }
  throw new Error(`not found in ${schedules.length} schedules, but: ${Array.from(others).join(", ")}`)
}

const cases: ReadonlyArray<readonly [name: string, finding: string, bug: () => Bugs.Bug]> = [
  ["committing on receipt", "atLeastOnce settled-unfinished", () => Bugs.commitOnReceipt],
  ["a nak that lets followers pass", "order skip", () => Bugs.nakPastFollowers],
  ["resuming without the fence", "overlap overlap", () => Bugs.resumeWithoutFence],
  ["new messages before outstanding ones", "order skip", () => Bugs.newBeforeOutstanding],
  ["settling an old epoch", "atLeastOnce settled-unfinished", Bugs.settleOldEpoch],
  ["dropping on a full mailbox", "atLeastOnce lost", () => Bugs.dropOnFullMailbox],
  ["a restart that loses the message in hand", "order skip", () => Bugs.restartLosesTheMessageInHand]
]

for (const [name, finding, bug] of cases) {
  it(`${name} is found by the oracle: ${finding}`, async () => {
    expect(await found(finding, bug)).toBeGreaterThan(0)
  }, 120_000)
}
