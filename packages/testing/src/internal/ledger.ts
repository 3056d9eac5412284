import type { Delivery, Failure, Transport } from "@effect-eventbus/core"
import type * as Exit from "effect/Exit"

/** @internal */
export interface Attempt {
  readonly startedAt: number
  /** Undefined while the handler runs. */
  endedAt: number | undefined
  exit: Exit.Exit<unknown, unknown> | undefined
}

/**
 * What one group did with one message.
 *
 * @internal
 */
export class Entry {
  readonly attempts: Array<Attempt> = []
  delivery: Delivery.Delivery | undefined
  event: unknown = undefined
  handled = false
  failure: Failure.EnvelopeFailure | Failure.PlainFailure | undefined
  /** The transport was told that the message needs no redelivery. */
  settled = false

  constructor(readonly partition: number, readonly offset: number) {}

  get isHeld(): boolean {
    return !this.handled && this.failure?._tag === "EnvelopeFailure" && this.failure.policy._tag === "Hold"
  }

  get isFinal(): boolean {
    return this.settled && (this.handled || (this.failure !== undefined && !this.isHeld))
  }

  get isRunning(): boolean {
    return this.attempts.length > 0 && this.attempts[this.attempts.length - 1]!.exit === undefined
  }
}

/**
 * A message that was published; without a receipt it is not written yet, or could not be.
 *
 * @internal
 */
export interface Written {
  readonly topic: Transport.TopicSpec
  readonly message: Transport.OutgoingMessage
  receipt: Transport.Receipt | undefined
}

/**
 * What one group did with the messages of one topic.
 *
 * @internal
 */
export class Group {
  readonly entries = new Map<string, Entry>()
  /** In the order in which they were handled. */
  readonly handled: Array<Entry> = []
  /** How many subscriptions of this bus read for the group now. */
  active = 0

  constructor(readonly topic: string, readonly name: string, readonly first: number) {}

  entry(partition: number, offset: number): Entry {
    const key = `${partition}@${offset}`
    let entry = this.entries.get(key)
    if (entry === undefined) this.entries.set(key, entry = new Entry(partition, offset))
    return entry
  }

  find(partition: number, offset: number): Entry | undefined {
    return this.entries.get(`${partition}@${offset}`)
  }
}

/**
 * What happened on a bus: kept for as long as the test's layer lives.
 *
 * @internal
 */
export class Ledger {
  /** Rises with everything that happens. */
  version = 0
  /** How many calls of `publish` have not been answered. */
  publishing = 0
  readonly written: Array<Written> = []
  private readonly groups = new Map<string, Map<string, Group>>()

  group(topic: string, name: string, first = 0): Group {
    let groups = this.groups.get(topic)
    if (groups === undefined) this.groups.set(topic, groups = new Map())
    let group = groups.get(name)
    if (group === undefined) groups.set(name, group = new Group(topic, name, first))
    return group
  }

  groupsOf(topic: string): ReadonlyArray<Group> {
    return Array.from(this.groups.get(topic)?.values() ?? [])
  }

  all(): ReadonlyArray<Group> {
    return Array.from(this.groups.values(), (groups) => Array.from(groups.values())).flat()
  }

  writtenAt(receipt: Transport.Receipt): Written | undefined {
    return this.written.find(({ receipt: at }) =>
      at !== undefined && at.topic === receipt.topic && at.partition === receipt.partition &&
      at.offset === receipt.offset
    )
  }

  /** What a group has not finished, of what was published through this bus and what was handed over. */
  unfinished(group: Group): ReadonlyArray<Entry> {
    for (const { receipt } of this.written.slice(group.first)) {
      if (receipt?.topic === group.topic) group.entry(receipt.partition, receipt.offset)
    }
    return Array.from(group.entries.values()).filter((entry) => !entry.isFinal)
  }

  get isRunning(): boolean {
    return this.all().some((group) => Array.from(group.entries.values()).some((entry) => entry.isRunning))
  }
}
