import * as Predicate from "effect/Predicate"
import type { StoreChange } from "../../Transport.js"
import type { By } from "./letter.js"
import type { Parked } from "./parked.js"

/**
 * What somebody wants of the parked aggregates of a partition. It is in the store, so that it outlives the owner that has begun with it.
 *
 * @internal
 */
export interface Order {
  readonly id: string
  readonly does: "release" | "discard"
  /** Undefined: all of them, or those with this cause. */
  readonly aggregate?: string | undefined
  /** Some of them. */
  readonly aggregates?: ReadonlyArray<string> | undefined
  readonly cause?: string | undefined
  readonly by: By
  /** Milliseconds since the epoch. */
  readonly at: number
  /** Only the letter of this offset is discarded. */
  readonly offset?: number | undefined
  /** Letters per second, of a partition. */
  readonly rate?: number | undefined
}

/** An order at its place among the changes of the store. */
export interface Command extends Order {
  readonly revision: number
}

const prefix = "command/"

/**
 * The command that this is a part of.
 *
 * @internal
 */
export const wholeOf = ({ id }: Order): string => id.split("/", 1)[0]!

/** @internal */
export const isKey = (key: string): boolean => key.startsWith(prefix)

/** @internal */
export const keyOf = ({ id }: Order): string => `${prefix}${id}`

/** @internal */
export const encode = (order: Order): StoreChange => ({
  key: keyOf(order),
  value: new TextEncoder().encode(JSON.stringify(order))
})

/** Undefined: it is none, or one of a newer version. */
export const decode = (key: string, value: Uint8Array, revision: number): Command | undefined => {
  try {
    const order = JSON.parse(new TextDecoder().decode(value)) as unknown
    return Predicate.hasProperty(order, "does") && (order.does === "release" || order.does === "discard") &&
        Predicate.hasProperty(order, "by") && Predicate.isRecord(order.by)
      ? { ...sound(order as unknown as Order), id: key.slice(prefix.length), revision }
      : undefined
  } catch {
    return undefined
  }
}

/** Anybody can write to the store. What does not fit would make each owner's release die. */
const sound = (order: Order): Order => ({
  ...order,
  by: { who: `${order.by.who}`, why: `${order.by.why}` },
  rate: typeof order.rate === "number" && order.rate > 0 && order.rate < Infinity ? order.rate : undefined,
  aggregates: Array.isArray(order.aggregates) ? order.aggregates : undefined
})

/**
 * Whether the command is about an aggregate. What failed after the command, or because of it, is not released by it once more.
 *
 * @internal
 */
export const concerns = (command: Command, parked: Parked): boolean =>
  parked.failedAt <= command.revision &&
  (command.aggregate === undefined || command.aggregate === parked.key) &&
  (command.aggregates === undefined || namesOf(command.aggregates).has(parked.key)) &&
  (command.cause === undefined || command.cause === parked.cause)

const sets = new WeakMap<ReadonlyArray<string>, ReadonlySet<string>>()

const namesOf = (aggregates: ReadonlyArray<string>): ReadonlySet<string> => {
  const known = sets.get(aggregates) ?? new Set(aggregates)
  sets.set(aggregates, known)
  return known
}
