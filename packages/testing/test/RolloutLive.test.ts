import { Rollout, Strategy } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Data, Effect } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { provideBus, traffic, watching } from "./RolloutTraffic.js"

class Bad extends Data.TaggedError("Bad") {}

const candidate = Strategy.pool({ name: "candidate", size: 64 })

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

let calls = 0
/** Each third message fails at its first attempt. */
const third = (attempt: number): boolean => attempt === 1 && ++calls % 3 === 0

/** What the candidate does once its fault has begun. */
const faults: ReadonlyArray<{
  readonly name: string
  readonly trigger: Rollout.Failure["trigger"]
  readonly act: (attempt: number) => Effect.Effect<unknown, Bad>
}> = [
  { name: "slowness", trigger: "p99", act: () => Effect.sleep("30 millis") },
  {
    name: "defects",
    trigger: "restarts",
    act: (attempt) => third(attempt) ? Effect.dieMessage("a bug") : Effect.void
  },
  {
    name: "failures",
    trigger: "errors",
    act: (attempt) => third(attempt) ? Effect.fail(new Bad()) : Effect.void
  },
  {
    name: "a leak",
    trigger: "heap",
    act: () => Effect.sync(() => leaked.push(Array.from({ length: 5_000 }, (_, i) => i + 0.5)))
  },
  { name: "handlers that hang", trigger: "p99", act: () => Effect.sleep("20 seconds") }
]

let leaked: Array<unknown> = []

const eventually = (what: string, holds: () => boolean) =>
  Effect.sleep("10 millis").pipe(
    Effect.repeat({ until: holds }),
    Effect.timeoutFail({ duration: "30 seconds", onTimeout: () => new Error(`never came true: ${what}`) })
  )

describe("a rollout on a bus under load", () => {
  for (const { act, name, trigger } of faults) {
    it.scopedLive(`rolls a candidate with ${name} back by its trigger ${trigger}, and the order holds`, () => {
      const { analysed, changes, layer, lines } = watching()
      return Effect.gen(function*() {
        leaked = []
        let faultAt = Infinity
        let lastAt = 0
        const { bus, isDone, publish, totals } = yield* traffic(
          "candidate",
          (side, _, attempt) =>
            Effect.suspend(() => {
              if (side === "baseline") return Effect.sleep("1 millis")
              lastAt = performance.now()
              return Effect.zipRight(Effect.sleep("1 millis"), lastAt > faultAt ? act(attempt) : Effect.void)
            })
        )
        const rollout = yield* Rollout.start(bus.dispatch, {
          candidate,
          steps: [{ share: 0.5, for: "1 hour" }],
          interval: "100 millis",
          minimum: 20,
          // One trigger after the other: a leak makes collections longer, and a busy machine both sides slow.
          triggers: trigger === "heap"
            ? { heapFor: "300 millis", p99: false }
            : { leastDifference: trigger === "p99" ? "10 millis" : "1 second", heap: false }
        })
        let isPublishing = true
        let rounds = 0
        const publisher = yield* Effect.fork(
          Effect.zipRight(publish, Effect.sync(() => trigger === "heap" && ++rounds % 5 === 0 ? collect() : undefined))
            .pipe(
              Effect.zipRight(Effect.sleep("20 millis")),
              Effect.repeat({ while: () => isPublishing })
            )
        )
        yield* eventually(
          "the candidate is judged as good",
          () => analysed.filter(({ figures }) => figures.candidate.messages > 100).length >= 3
        )
        expect(changes.map(({ kind }) => kind)).toEqual(["started"])
        faultAt = performance.now()
        const state = yield* Effect.timeout(rollout.ended, "20 seconds")
        const rolledBackAt = performance.now()
        expect(state.status).toBe("rolled-back")
        const { after, before, failures, figures } = changes[1]!
        expect(failures.map((failure) => failure.trigger)).toContain(trigger)
        expect(state.reasons.some((reason) => reason.startsWith(`${trigger}: `))).toBe(true)
        expect([before!.status, before!.share, after.status, after.share]).toEqual(["running", 0.5, "rolled-back", 0])
        expect(figures!.baseline.messages).toBeGreaterThan(0)
        expect(lines.filter((line) => line.startsWith(`WARN Rollout candidate: rolled back`))).toHaveLength(1)
        // What hangs can't move.
        if (name !== "handlers that hang") {
          yield* bus.dispatch.moved("10 seconds")
          isPublishing = false
          yield* publisher
          yield* eventually("all are handled", isDone)
        } else isPublishing = false
        const { remaining, strategy } = yield* bus.dispatch.report
        expect(strategy.name).toBe("actor-per-aggregate")
        if (name !== "handlers that hang") expect(remaining).toBe(0)
        expect(totals.violations).toBe(0)
        expect(totals.candidate).toBeGreaterThan(100)
        console.log(
          `${name}: rolled back ${
            Math.round(rolledBackAt - faultAt)
          } ms after the fault, the last message began on the candidate ${
            Math.round(lastAt - faultAt)
          } ms after it (intervals of 100 ms): ${state.reasons.join("; ")}`
        )
      }).pipe(
        provideBus({ restartBase: "1 millis", retryBase: "1 millis", closeDeadline: "10 millis" }),
        Effect.provide(layer)
      )
    })
  }
})
