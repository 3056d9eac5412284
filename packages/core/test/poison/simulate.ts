/**
 * Thousands of lives of a process in a second: one partition, whose messages come at a rate, and deaths at random moments or by poison. What is
 * decided is decided by the code of the library; around it only time, commits and the order of suspects are played.
 */
import * as Records from "../../src/internal/poison/records.js"
import { Suspects } from "../../src/internal/poison/suspects.js"

export interface Scenario {
  readonly lives: number
  /** Milliseconds until a life is killed, on average. */
  readonly killedAfter: number
  /** Messages in a second. */
  readonly rate: number
  /** Of a handler, in milliseconds, on average. */
  readonly handler: number
  readonly roundTrip: number
  /** Until the next life begins. */
  readonly restart: number
  readonly probation: number
  readonly alone: number
  /** Which offsets end the process. */
  readonly isPoison?: (offset: number) => boolean
  readonly seed: number
}

export interface Outcome {
  readonly handled: number
  readonly fewest: number
  /** Deaths with one suspect in hand. */
  readonly struck: number
  readonly guilty: ReadonlyArray<number>
  readonly innocent: ReadonlyArray<number>
  /** How often each poison was started. */
  readonly starts: ReadonlyMap<number, number>
  readonly lives: number
}

const random = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

export const simulate = (scenario: Scenario): Outcome => {
  const { alone, handler, isPoison = () => false, killedAfter, probation, rate, restart, roundTrip } = scenario
  const next = random(scenario.seed)
  const exponential = (mean: number) => -Math.log(1 - next()) * mean
  const store = new Map<string, Uint8Array>()
  const write = (changes: ReadonlyArray<Records.Found | { key: string; value: Uint8Array | null } | undefined>) => {
    for (const change of changes as ReadonlyArray<{ key: string; value: Uint8Array | null } | undefined>) {
      if (change === undefined) continue
      if (change.value === null) store.delete(change.key)
      else store.set(change.key, change.value)
    }
  }
  let now = 1_000_000
  /** Those that come again: not handled, or not committed. */
  let open: Array<number> = []
  let arrived = 0
  const arrive = (until: number) => {
    const fresh: Array<number> = []
    const end = Math.floor((until - 1_000_000) * rate / 1_000)
    while (arrived < end) fresh.push(arrived++)
    return fresh
  }
  let handled = 0
  let fewest = Infinity
  let struck = 0
  const guilty: Array<number> = []
  const innocent: Array<number> = []
  const starts = new Map<number, number>()
  let life = 0
  for (; life < scenario.lives; life++) {
    open.push(...arrive(now))
    const begun = now
    let killedAt = begun + exponential(killedAfter)
    const suspects = new Suspects(Records.found(store), `life${life}`, now, 3)
    write(suspects.opened)
    struck += suspects.struck.length
    const messageOf = (offset: number) => ({
      offset,
      timestamp: offset,
      maybeDuplicate: true,
      deliveryCount: undefined
    })
    let count = 0
    /** When a message was finished. */
    const finished = new Map<number, number>()
    let waiting = new Set<number>()
    const withheld: Array<number> = []
    const startFree = (offset: number, at: number) => {
      if (isPoison(offset)) {
        starts.set(offset, (starts.get(offset) ?? 0) + 1)
        killedAt = Math.min(killedAt, at + 1)
      }
      finished.set(offset, at + exponential(handler))
    }
    const convict = (offset: number, at: number) => {
      write([suspects.convict(messageOf(offset))])
      ;(isPoison(offset) ? guilty : innocent).push(offset)
      finished.set(offset, at)
      write([suspects.left(messageOf(offset))])
      for (const one of waiting) startFree(one, at)
      waiting = new Set()
    }
    // A lane takes so many.
    const taken = open.slice(0, 1_000)
    for (const offset of taken) {
      suspects.saw(offset)
      const stance = suspects.stanceOf(messageOf(offset))
      if (stance === "free") startFree(offset, begun)
      else if (stance === "suspect") waiting.add(offset)
      else if (stance === "withheld") withheld.push(offset)
      else {
        // It was convicted, and the process died before that was settled.
        finished.set(offset, begun)
        write([suspects.left(messageOf(offset))])
      }
      if (stance !== "free") suspects.came(messageOf(offset))
    }
    if (killedAt > begun + 1_000) write(suspects.inherits())
    const order = Array.from(waiting)
    let oldest = 0
    let at = begun + 1_000
    let firstAt: number | undefined
    let judged = withheld.length === 0
    const judge = () => {
      judged = true
      suspects.survived()
      for (const offset of withheld) convict(offset, begun + probation)
    }
    while (waiting.size > 0 && at < killedAt) {
      if (!judged && at >= begun + probation) {
        judge()
        continue
      }
      if (!suspects.isGrouped && at - (firstAt ?? at) >= alone) suspects.group()
      const first = Array.from(waiting).find((offset) => suspects.isNear(offset))
        ?? (suspects.isGrouped
          ? Array.from(waiting).find((offset) => suspects.runsAlone(messageOf(offset)))
          : undefined)
      if (first === undefined && suspects.isGrouped) {
        const some = Array.from(waiting).slice(0, 64)
        at += roundTrip
        if (at >= killedAt) break
        write(suspects.beginTogether(some.map(messageOf)))
        let last = at
        for (const one of some) {
          waiting.delete(one)
          startFree(one, at)
          last = Math.max(last, finished.get(one)!)
        }
        for (const one of some) if (finished.get(one)! < killedAt) suspects.ends(messageOf(one), true)
        at = last
        if (at >= killedAt) break
        if (waiting.size === 0) write(suspects.rests())
        continue
      }
      firstAt ??= at
      const isAny = count < 100 && at - begun < 3_000
      while (!waiting.has(order[oldest]!)) oldest++
      const picked = first ?? (isAny ? Array.from(waiting)[Math.floor(next() * waiting.size)]! : order[oldest]!)
      waiting.delete(picked)
      count++
      at += roundTrip
      if (at >= killedAt) break
      write(suspects.begins(messageOf(picked)))
      if (isPoison(picked)) {
        starts.set(picked, (starts.get(picked) ?? 0) + 1)
        killedAt = Math.min(killedAt, at + 1)
      }
      at += exponential(handler)
      if (at >= killedAt) break
      suspects.ends(messageOf(picked), true)
      finished.set(picked, at)
      write([suspects.left(messageOf(picked))])
      if (waiting.size === 0) write(suspects.rests())
    }
    if (!judged && killedAt > begun + probation) judge()
    const isQuiet = Math.max(at, begun + probation) + 10_000 < killedAt
    if (isQuiet) write(suspects.over())
    // What came while it lived was handled beside.
    for (;;) {
      const at = 1_000_000 + arrived * 1_000 / rate
      if (at >= killedAt) break
      startFree(arrived++, Math.max(begun, at))
    }
    const before = handled
    const age = next() * 1_000
    const again: Array<number> = []
    const all = new Set([...open, ...finished.keys()])
    for (const offset of all) {
      const end = finished.get(offset)
      // A commit is at most a second old.
      const isCommitted = end !== undefined && end < killedAt - age
      if (isCommitted) handled++
      else again.push(offset)
    }
    open = again.sort((a, b) => a - b)
    fewest = Math.min(fewest, handled - before)
    now = killedAt + restart
  }
  return { handled, fewest, struck, guilty, innocent, starts, lives: life }
}
