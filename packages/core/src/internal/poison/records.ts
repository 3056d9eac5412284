import type { StoreChange } from "../../Transport.js"

/**
 * A message with which a process has died while it was run alone.
 *
 * @internal
 */
export interface Case {
  readonly offset: number
  /** The message's. Another one has come to its offset where it differs. */
  readonly timestamp: number
  /** How many processes have died while it was run alone. */
  readonly strikes: number
  /** When the first and the last of these deaths were found, in milliseconds since the epoch. */
  readonly first: number
  readonly last: number
  /** A process had died before while it was run with some others only. */
  readonly wasNear: boolean
  /** It is given up, and not started any more. */
  readonly isConvicted: boolean
}

/**
 * What the owners of a partition hand on: one value in the store, which only the owner writes.
 *
 * @internal
 */
export interface Account {
  readonly cases: ReadonlyArray<Case>
  /** When owners were found dead, as far as no convicted message explains it. */
  readonly deaths: ReadonlyArray<number>
  /** The dead lives that are in this already. */
  readonly counted: ReadonlyArray<string>
  /** Messages are suspected that have not been run since. */
  readonly isOpen: boolean
  /** Those with which a process has died while some were run together: they are run alone, and first. */
  readonly near: ReadonlyArray<number>
  /** Those up to this offset are suspects although nobody calls them duplicates. */
  readonly upTo: number
}

/**
 * An owner of a partition, from its assignment until it has closed the partition.
 *
 * @internal
 */
export interface Life {
  readonly since: number
  /** The messages that it does not start for the time of their probation. */
  readonly withheld: ReadonlyArray<number>
}

/**
 * Which suspects an owner has in hand, and which it has finished. With many of the latter it has several of these.
 *
 * @internal
 */
export interface Hand {
  /** One that is run alone, or some that are run together. */
  readonly held: ReadonlyArray<{ readonly offset: number; readonly timestamp: number }>
  readonly isAlone: boolean
  readonly finished: ReadonlyArray<number>
}

/** @internal */
export const accountKey = "account"

/** @internal */
export const lifeKey = (life: string): string => `life/${life}`

/** @internal */
export const handKey = (life: string, page: number): string => `hand/${life}/${page}`

/** @internal */
export const change = (key: string, value: Account | Life | Hand | null): StoreChange => ({
  key,
  value: value === null ? null : encoder.encode(JSON.stringify(value))
})

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * What a partition's store holds. What can't be read is left out: it is of another version.
 *
 * @internal
 */
export interface Found {
  readonly account: Account
  readonly lives: ReadonlyMap<string, Life>
  /** By life; with the number of their page. */
  readonly hands: ReadonlyMap<string, ReadonlyArray<readonly [page: number, hand: Hand]>>
}

/** @internal */
export const found = (entries: ReadonlyMap<string, Uint8Array>): Found => {
  const lives = new Map<string, Life>()
  const hands = new Map<string, Array<readonly [number, Hand]>>()
  for (const [key, value] of entries) {
    const [kind, life, page] = key.split("/")
    if (kind === "life" && life !== undefined) lives.set(life, lifeOf(json(value)))
    if (kind === "hand" && life !== undefined) {
      const pages = hands.get(life) ?? []
      pages.push([Number(page), handOf(json(value))])
      hands.set(life, pages)
    }
  }
  const account = entries.get(accountKey)
  return { account: accountOf(account === undefined ? undefined : json(account)), lives, hands }
}

const json = (bytes: Uint8Array): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes))
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : {}
  } catch {
    return {}
  }
}

const number = (value: unknown): number => typeof value === "number" && Number.isFinite(value) ? value : 0

const numbers = (value: unknown): ReadonlyArray<number> => Array.isArray(value) ? value.map(number) : []

const lifeOf = ({ since, withheld }: Readonly<Record<string, unknown>>): Life => ({
  since: number(since),
  withheld: numbers(withheld)
})

const handOf = ({ finished, held, isAlone }: Readonly<Record<string, unknown>>): Hand => ({
  held: Array.isArray(held)
    ? held.flatMap((one: { readonly offset?: unknown; readonly timestamp?: unknown } | null) =>
      typeof one?.offset === "number" ? [{ offset: one.offset, timestamp: number(one.timestamp) }] : []
    )
    : [],
  isAlone: isAlone === true,
  finished: numbers(finished)
})

const accountOf = (value: Readonly<Record<string, unknown>> = {}): Account => ({
  cases: Array.isArray(value.cases) ? value.cases.flatMap(caseOf) : [],
  deaths: numbers(value.deaths),
  counted: Array.isArray(value.counted) ? value.counted.filter((one) => typeof one === "string") : [],
  isOpen: value.isOpen === true,
  near: numbers(value.near),
  upTo: typeof value.upTo === "number" ? value.upTo : -1
})

const caseOf = (value: Partial<Case> | null | undefined): ReadonlyArray<Case> =>
  typeof value?.offset !== "number" ? [] : [{
    offset: value.offset,
    timestamp: number(value.timestamp),
    strikes: number(value.strikes),
    first: number(value.first),
    last: number(value.last),
    wasNear: value.wasNear === true,
    isConvicted: value.isConvicted === true
  }]
