/** Queues by key, one step of a key at a time, and all steps handed to them by the same loop. */
import { Supervisor } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import fastq from "fastq"
import PQueue from "p-queue"
import { effectful, promising } from "../Handlers.js"
import { idOf, type Spread, type Step, step, steps } from "../Load.js"
import type { Meter } from "../Meter.js"

type Offer = (key: string, step: Step) => void

/** How many steps wait at most, and how many of them for one key if they are spread evenly. */
const ahead = 10_000
const aheadOfKey = 1_000

/** Puts a step into the queue of its key, which is made when there is none. */
export const open = (system: string, meter: Meter): Effect.Effect<Offer, never, Scope.Scope> =>
  system === "ours" ? actors(meter) : Effect.sync(() => system === "fastq" ? fastqs(meter) : pQueues(meter))

const fastqs = (meter: Meter): Offer => {
  const handle = promising("none", meter)
  const work = async (step: Step): Promise<void> => handle(step)
  const queues = new Map<string, fastq.queueAsPromised<Step, void>>()
  return (key, step) => {
    let queue = queues.get(key)
    if (queue === undefined) queues.set(key, queue = fastq.promise(work, 1))
    void queue.push(step)
  }
}

const pQueues = (meter: Meter): Offer => {
  const handle = promising("none", meter)
  const queues = new Map<string, PQueue>()
  return (key, step) => {
    let queue = queues.get(key)
    if (queue === undefined) queues.set(key, queue = new PQueue({ concurrency: 1 }))
    void queue.add(async () => handle(step))
  }
}

const actors = (meter: Meter) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.Supervisor
    const home = yield* supervisor.home<never>("bench")
    const handle = effectful("none", meter)
    const place = supervisor.places()
    const waiter = Supervisor.waiter(() => {})
    const slots = new Map<string, ReturnType<Supervisor.Service["start"]>>()
    const options = {
      capacity: aheadOfKey,
      restart: supervisor.restart,
      place,
      onEnd: ({ name }: { readonly name: string }) => slots.delete(name)
    }

    class StepTask implements Supervisor.Task {
      readonly home = home
      constructor(private readonly step: Step) {}
      run(): Effect.Effect<void> {
        return handle(this.step)
      }
      crashed(): void {}
      giveUp(): Effect.Effect<void> {
        return Effect.void
      }
      interrupted(): void {}
      left(): void {}
    }

    const slotOf = (key: string) => {
      let slot = slots.get(key)
      if (slot === undefined) {
        if (!supervisor.admit(place, waiter)) throw new Error("Too many slots live")
        slot = supervisor.start(key, home, options)
        slots.set(key, slot)
      }
      return slot
    }
    const offer: Offer = (key, step) => {
      // The feed is bounded so that it never fills a mailbox.
      if (!slotOf(key).offer(new StepTask(step), waiter)) throw new Error("A mailbox is full")
    }
    yield* Effect.addFinalizer(() =>
      Effect.forEach(Array.from(slots.values()), (slot) => slot.stop(), { discard: true })
    )
    return offer
  }).pipe(Effect.provide(Supervisor.layer()))

/** Feeds the queues until the meter has seen enough. */
export const feed = async (offer: Offer, spread: Spread, total: number, meter: Meter): Promise<void> => {
  const next = steps(spread)
  const room = Math.min(ahead, aheadOfKey * spread.aggregates)
  let offered = 0
  while (!meter.isOver && offered < total) {
    while (offered < total && offered - meter.finished < room) {
      const { aggregate, sequence } = next()
      offered++
      offer(idOf(aggregate), step(aggregate, sequence))
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}
