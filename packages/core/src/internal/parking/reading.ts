import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ReadFailed } from "../../EventBusError.js"
import type { Store, StoreChange } from "../../Transport.js"
import type { Command } from "./command.js"
import * as Commands from "./command.js"
import { partsOf, type Summary, summaryOf } from "./letter.js"
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
  /** Letters with which owners did not come back. */
  readonly trials: Trials.Record | undefined
  /** What former owners have left that means nothing now. */
  readonly strays: ReadonlyArray<StoreChange>
}

const prefix = "owner/"

/** The mark of an owner. It is written before the store is read: what a former owner's late request writes comes behind it. */
export const markOf = (owner: string): StoreChange => ({ key: `${prefix}${owner}`, value: new Uint8Array([1]) })

/**
 * Reads what is in the store of a partition. `owner` has written its mark before.
 *
 * @internal
 */
export const read = (store: Store, partition: number, owner: string): Effect.Effect<Contents, ReadFailed> =>
  Effect.suspend(() => {
    const letters = new Map<string, Found>()
    const commands = new Map<string, Command>()
    const strays = new Set<string>()
    const marks = new Set<string>()
    let trials: Trials.Record | undefined
    /** Who owned the partition when the change was written. Undefined: the marks of that time are gone, and its strays with them. */
    let ownedBy: string | undefined
    const letter = (key: string, value: Uint8Array | null, revision: number) => {
      const parts = partsOf(key)
      if (parts === undefined) return
      letters.delete(key)
      if (value === null) return void strays.delete(key)
      const about = summaryOf(value)
      // A first letter of somebody who was not the owner any more. Its message was not settled by it, and came to the next owner.
      const isFirst = about === undefined || about.writer === parts.owner
      if (isFirst && ownedBy !== undefined && parts.owner !== ownedBy) return void strays.add(key)
      letters.set(key, { ...parts, revision, size: value.length, about: about && slim(about) })
    }
    return Effect.map(
      Stream.runForEach(store.read(partition), ({ key, revision, value }) =>
        Effect.sync(() => {
          if (key.startsWith(prefix)) {
            if (value === null) return
            ownedBy = key.slice(prefix.length)
            marks.add(key)
          } else if (Commands.isKey(key)) {
            const command = value === null ? undefined : Commands.decode(key, value, revision)
            if (command === undefined) commands.delete(key)
            else commands.set(key, command)
          } else if (key === Trials.key) trials = value === null ? undefined : Trials.decode(value)
          else letter(key, value, revision)
        })),
      () => {
        marks.delete(`${prefix}${owner}`)
        const parked = indexOf(letters, strays)
        // The marks go last: without them strays can't be told apart.
        const removed = [...strays, ...marks].map((key) => ({ key, value: null }))
        return { parked, commands: Array.from(commands.values()), trials, strays: removed }
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
