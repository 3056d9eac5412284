import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ReadFailed } from "../../EventBusError.js"
import type { Store, StoreChange } from "../../Transport.js"
import type { Command } from "./command.js"
import * as Commands from "./command.js"
import { keptOf, letterOfKept, partsOf, type Summary, summaryOf } from "./letter.js"
import { Parked } from "./parked.js"
import * as Trials from "./trials.js"

/** What of a letter the index is made of. */
interface Found {
  readonly aggregate: string
  readonly offset: number
  readonly owner: string
  readonly revision: number
  readonly size: number
  readonly about: Summary | undefined
}

/**
 * What an owner finds when it begins.
 *
 * @internal
 */
export interface Contents {
  readonly parked: Map<string, Parked>
  readonly commands: ReadonlyArray<Command>
  /** The names of letters that count although they may look like strays. */
  readonly kept: ReadonlySet<string>
  /** Letters with which owners did not come back. */
  readonly trials: Trials.Record | undefined
  /** What former owners have left that means nothing now. */
  readonly strays: ReadonlyArray<StoreChange>
}

const prefix = "owner/"

/** The mark of an owner. It is written before the store is read: what a former owner's late request writes comes behind it. */
export const markOf = (owner: string): StoreChange => ({ key: `${prefix}${owner}`, value: new Uint8Array([1]) })

/** An owner is named by its epoch and a random text. `NaN`: it is none of ours. */
const epochOf = (owner: string): number => Number(owner.slice(0, owner.lastIndexOf("-")))

/** Whose marks have been read so far, in the order of the store. */
class Marks {
  private readonly places = new Map<string, number>()
  private count = 0

  changed(owner: string, isThere: boolean): void {
    if (!isThere) this.places.delete(owner)
    // A mark that is tried again may come twice, and late.
    else if (!this.places.has(owner)) this.places.set(owner, this.count++)
  }

  /**
   * Whether another owner has followed this one. A mark may come late itself, after that of the next owner, whose letters are valid all
   * the same: so the epoch counts as well. In doubt nobody has followed: a stray that is kept is a duplicate, and a letter that is removed is lost.
   */
  hasFollowed(owner: string): boolean {
    const place = this.places.get(owner) ?? -1
    const epoch = epochOf(owner)
    for (const [other, at] of this.places) if (other !== owner && at > place && epochOf(other) >= epoch) return true
    return false
  }

  keysBut(owner: string): ReadonlyArray<string> {
    return Array.from(this.places.keys()).filter((one) => one !== owner).map((one) => `${prefix}${one}`)
  }
}

/**
 * Reads what is in the store of a partition. `owner` has written its mark before.
 *
 * @internal
 */
export const read = (store: Store, partition: number, owner: string): Effect.Effect<Contents, ReadFailed> =>
  Effect.suspend(() => {
    const letters = new Map<string, Found>()
    const commands = new Map<string, Command>()
    const strays = new Map<string, Found>()
    const kept = new Set<string>()
    const marks = new Marks()
    let trials: Trials.Record | undefined
    const letter = (key: string, value: Uint8Array | null, revision: number) => {
      const parts = partsOf(key)
      if (parts === undefined) return
      letters.delete(key)
      if (value === null) return void strays.delete(key)
      const about = summaryOf(value)
      const found = { ...parts, revision, size: value.length, about: about && slim(about) }
      // A first letter of somebody who was not the owner any more. Its message was not settled by it, and came to the next owner.
      const isFirst = about === undefined || about.writer === parts.owner
      if (isFirst && marks.hasFollowed(parts.owner)) return void strays.set(key, found)
      strays.delete(key)
      letters.set(key, found)
    }
    return Effect.map(
      Stream.runForEach(store.read(partition), ({ key, revision, value }) =>
        Effect.sync(() => {
          const keeps = letterOfKept(key)
          if (keeps !== undefined) {
            if (value === null) kept.delete(keeps)
            else kept.add(keeps)
          } else if (key.startsWith(prefix)) {
            marks.changed(key.slice(prefix.length), value !== null)
          } else if (Commands.isKey(key)) {
            const command = value === null ? undefined : Commands.decode(key, value, revision)
            if (command === undefined) commands.delete(key)
            else commands.set(key, command)
          } else if (key === Trials.key) trials = value === null ? undefined : Trials.decode(value)
          else letter(key, value, revision)
        })),
      () => {
        for (const key of kept) {
          const found = strays.get(key)
          if (found !== undefined) letters.set(key, found)
          strays.delete(key)
        }
        const others = new Set(strays.keys())
        const parked = indexOf(letters, others)
        for (const key of kept) {
          if (letters.has(key) && !others.has(key)) continue
          kept.delete(key)
          others.add(keptOf(key))
        }
        // The marks go last: without them strays can't be told apart.
        const removed = [...others, ...marks.keysBut(owner)].map((key) => ({ key, value: null }))
        return { parked, commands: Array.from(commands.values()), kept, trials, strays: removed }
      }
    )
  })

/** The texts of causes are kept once for each aggregate. */
const slim = (about: Summary): Summary => ({ ...about, failures: about.failures.slice(-1) })

const indexOf = (letters: ReadonlyMap<string, Found>, strays: Set<string>): Map<string, Parked> => {
  const parked = new Map<string, Parked>()
  for (const [key, { about, aggregate, offset, owner, revision, size }] of letters) {
    let one = parked.get(aggregate)
    if (one === undefined) parked.set(aggregate, one = new Parked(aggregate))
    if (one.get(offset) !== undefined) {
      strays.add(key)
      continue
    }
    one.put({ offset, owner, revision, size, timestamp: about?.timestamp ?? 0 })
    if (about === undefined) continue
    one.since = one.since === 0 ? about.parkedAt : Math.min(one.since, about.parkedAt)
    one.last = Math.max(one.last, about.parkedAt)
    const failure = about.failures.at(-1)
    if (failure !== undefined && revision > one.failedAt) {
      one.failedAt = revision
      one.cause = about.cause
      one.text = failure.cause
    } else if (one.failedAt === 0) one.cause ??= about.cause
  }
  return parked
}
