/** The handlers that are measured, as promises for the others and as effects for us. */
import * as Effect from "effect/Effect"
import type { Step } from "./Load.js"
import type { Meter } from "./Meter.js"
import type { Work } from "./Workload.js"

const waitMs = 2
const busyMs = 0.1

const keepBusy = (): void => {
  const until = performance.now() + busyMs
  while (performance.now() < until);
}

/** What others call: nothing to wait for where nothing is waited for, so that they needn't. */
export const promising = (work: Work, meter: Meter) => ({ aggregate, sequence }: Step): Promise<void> | void => {
  if (meter.isOver) return
  meter.start(aggregate, sequence)
  if (work === "wait") {
    return new Promise((resolve) => {
      setTimeout(() => {
        meter.finish(aggregate)
        resolve()
      }, waitMs)
    })
  }
  if (work === "busy") keepBusy()
  meter.finish(aggregate)
}

/** What we call: the same work, and the same timer. `Effect.sleep` would add its own cost, which is more than a message's. */
export const effectful = (work: Work, meter: Meter) => {
  const handle = promising(work, meter)
  return (step: Step): Effect.Effect<void> =>
    Effect.suspend(() => {
      const waiting = handle(step)
      return waiting === undefined ? Effect.void : Effect.promise(() => waiting as Promise<void>)
    })
}

/** Chains of promises by key, as one writes them by hand. */
export const chains = (handle: (step: Step) => Promise<void> | void) => {
  const tails = new Map<string, Promise<void>>()
  const start = Promise.resolve()
  return (key: string, step: Step): Promise<void> => {
    const next = (tails.get(key) ?? start).then(() => handle(step))
    tails.set(key, next)
    return next
  }
}
