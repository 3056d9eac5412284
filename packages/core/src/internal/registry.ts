import type { EnvelopeFailure, PlainFailure } from "../Failure.js"
import type { Subscription } from "../Subscription.js"

/** @internal */
export type AnySubscription = Subscription<EnvelopeFailure<unknown> | PlainFailure<unknown>>

/** @internal */
export interface Entry {
  readonly topic: string
  readonly group: string
  /** When its place was taken, in milliseconds since the epoch. */
  readonly since: number
  /** Undefined while the transport is still subscribing. */
  subscription: AnySubscription | undefined
}

/**
 * The subscriptions of a bus, by topic and group. Reading needs no lock. Only subscribing and closing write.
 *
 * @internal
 */
export class Registry {
  private readonly topics = new Map<string, Map<string, Entry>>()

  constructor(private readonly now: () => number) {}

  find(topic: string, group: string): AnySubscription | undefined {
    return this.topics.get(topic)?.get(group)?.subscription
  }

  /** Whether there is one, also one that is still subscribing. */
  has(topic: string, group: string): boolean {
    return this.topics.get(topic)?.has(group) ?? false
  }

  /** Takes the place of a topic and group, unless it is taken. */
  add(topic: string, group: string): Entry | undefined {
    let groups = this.topics.get(topic)
    if (groups?.has(group)) return undefined
    if (groups === undefined) this.topics.set(topic, groups = new Map())
    const entry: Entry = { topic, group, since: this.now(), subscription: undefined }
    groups.set(group, entry)
    return entry
  }

  /** Gives the place back; a later subscription of the same topic and group keeps its own. */
  remove(entry: Entry): void {
    const groups = this.topics.get(entry.topic)
    if (groups?.get(entry.group) !== entry) return
    groups.delete(entry.group)
    if (groups.size === 0) this.topics.delete(entry.topic)
  }

  all(): ReadonlyArray<AnySubscription> {
    return this.entries().flatMap(({ subscription }) => subscription === undefined ? [] : [subscription])
  }

  /** Those that are still subscribing. */
  starting(): ReadonlyArray<Entry> {
    return this.entries().filter(({ subscription }) => subscription === undefined)
  }

  private entries(): ReadonlyArray<Entry> {
    return Array.from(this.topics.values(), (groups) => Array.from(groups.values())).flat()
  }
}
