import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { Worker } from "node:worker_threads"
import { beats, bytes, copy, numbers, seen, source, text } from "./watchdogSource.js"

/**
 * The event loop stood still.
 *
 * @internal
 */
export interface Block {
  /** In milliseconds. */
  readonly duration: number
  /** In milliseconds of `performance.now()`. */
  readonly endedAt: number
  /** The handler that had started last when it was noticed. */
  readonly last: Started | undefined
}

/** @internal */
export interface Started {
  /** As `topic/group`. */
  readonly subscription: string
  readonly partition: number
  readonly offset: number
  /** Cut at 64 characters. */
  readonly aggregateId: string | undefined
}

/** How many subscriptions are told apart. */
const maxNames = 1_000

/**
 * Notices that the event loop stands still. A thread of its own looks whether the loop's heartbeat goes on: it needs no timer of the loop,
 * and is the only one that can say something as long as a handler keeps the loop from everything. What it counts are its own turns, so a
 * process that was suspended as a whole is no alarm.
 *
 * @internal
 */
export class Watchdog {
  private readonly shared = new SharedArrayBuffer(bytes)
  private readonly states = new Int32Array(this.shared)
  private readonly numbers = new Float64Array(this.shared, numbers, 3)
  private readonly text = new Uint16Array(this.shared, text, 65)
  private readonly names = new Map<string, number>()
  private readonly worker: Worker
  private readonly timer: NodeJS.Timeout
  private lastBeat = performance.now()
  private lastSeen = 0
  private block: Block | undefined

  constructor(private readonly blockedAfter: number, says: boolean, onError: (error: unknown) => void) {
    const every = Math.min(500, Math.max(20, blockedAfter / 10))
    this.numbers[0] = -1
    this.worker = new Worker(source, {
      eval: true,
      workerData: { shared: this.shared, every, blockedAfter, says },
      execArgv: [],
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 }
    })
    this.worker.on("error", onError)
    this.worker.unref()
    this.timer = setInterval(() => this.beat(), every)
    this.timer.unref()
  }

  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    clearInterval(this.timer)
    return Effect.promise(() => this.worker.terminate())
  }).pipe(Effect.timeoutOption("2 seconds"), Effect.asVoid)

  /** A handler is about to start: plain code, for it is called for every message. */
  started(subscription: string, partition: number, offset: number, aggregateId: string | undefined): void {
    const { numbers, text } = this
    numbers[0] = this.names.get(subscription) ?? this.named(subscription)
    numbers[1] = partition
    numbers[2] = offset
    const length = aggregateId === undefined ? 0 : Math.min(64, aggregateId.length)
    text[0] = length
    for (let i = 0; i < length; i++) text[i + 1] = aggregateId!.charCodeAt(i)
  }

  /** How the loop stood still last. Whoever asks first after it notices it: no timer of the loop may have run yet. */
  last(): Block | undefined {
    this.beat()
    return this.block
  }

  private beat(): void {
    const now = performance.now()
    const duration = now - this.lastBeat
    this.lastBeat = now
    Atomics.add(this.states, beats, 1)
    const isSeen = Atomics.load(this.states, seen)
    if (isSeen === this.lastSeen) return
    this.lastSeen = isSeen
    this.block = { duration: Math.max(duration, this.blockedAfter), endedAt: now, last: this.copied() }
  }

  private copied(): Started | undefined {
    const numbersThen = new Float64Array(this.shared, numbers + copy, 3)
    const textThen = new Uint16Array(this.shared, text + copy, 65)
    const name = Array.from(this.names).find(([, index]) => index === numbersThen[0])
    if (name === undefined) return undefined
    const aggregateId = String.fromCharCode(...textThen.slice(1, textThen[0]! + 1))
    return {
      subscription: name[0],
      partition: numbersThen[1]!,
      offset: numbersThen[2]!,
      aggregateId: aggregateId === "" ? undefined : aggregateId
    }
  }

  private named(subscription: string): number {
    if (this.names.size >= maxNames) return -1
    const index = this.names.size
    this.names.set(subscription, index)
    this.worker.postMessage([index, subscription])
    return index
  }
}

/**
 * A watchdog that ends with the scope. Undefined where this process can have no threads.
 *
 * @internal
 */
export const make = (
  blockedAfter: number,
  says: boolean
): Effect.Effect<Watchdog | undefined, never, Scope.Scope> =>
  Effect.flatMap(Effect.runtime<never>(), (runtime) => {
    const failed = (error: unknown) =>
      Effect.logWarning(
        `Nobody notices any more that the event loop stands still: the thread for it has ended (${String(error)})`
      )
    return Effect.acquireRelease(
      Effect.try(() => new Watchdog(blockedAfter, says, (error) => void Runtime.runFork(runtime)(failed(error)))).pipe(
        Effect.catchAll(({ error }) => Effect.as(failed(error), undefined))
      ),
      (watchdog) => watchdog?.end ?? Effect.void
    )
  })
