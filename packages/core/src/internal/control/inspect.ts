import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type { Aggregate, Concern, InHand, ListOptions, Page, Wait } from "../../Control.js"
import type { AddressBook } from "../addressBook.js"
import { describeCause } from "../describeCause.js"
import type { Flight } from "../flight.js"
import type { Parking } from "../parking/parking.js"
import * as Safely from "../safely.js"
import { keyless } from "./paused.js"

const maxCause = 500
const maxPage = 1_000

/**
 * The flight of an aggregate that has begun and not ended.
 *
 * @internal
 */
export const inHandOf = (book: AddressBook, key: string): Flight | undefined => {
  const mailbox = book.get(key)
  const inHand = mailbox && book.handOf(mailbox)
  if (inHand !== undefined && inHand.state !== "ended") return inHand
  const first = book.paused?.asides.get(key)?.flights[0]
  return first !== undefined && first.state !== "queued" && first.state !== "ended" ? first : undefined
}

/** @internal */
export const inspect = (
  book: AddressBook,
  key: string,
  now: number,
  slowAfter: number,
  parking: Parking | undefined
): Aggregate | undefined => {
  const mailbox = book.get(key)
  const aside = book.paused?.asides.get(key)
  const flight = inHandOf(book, key)
  const inSlot = mailbox === undefined || mailbox.turn !== undefined ? 0 : mailbox.size
  // The flight in hand may be on its way out of its slot.
  const both = flight?.isAside === true ? 1 : 0
  const size = inSlot + (aside?.flights.length ?? 0) - both
  const isParked = parking?.has(key) === true
  if (size === 0 && aside?.pause === undefined && !isParked) return undefined
  const pause = aside?.pause
  return {
    aggregate: key,
    pause,
    concerns: concernsOf(flight, pause !== undefined, isParked, now, slowAfter),
    waitsFor: size === 0 ? undefined : waitOf(book, flight, pause !== undefined),
    waiting: flight === undefined ? size : size - 1,
    inHand: flight && shown(flight, now)
  }
}

/** @internal */
export const list = (
  book: AddressBook,
  now: number,
  options: ListOptions,
  parking: Parking | undefined
): Page => {
  const slowAfter = slownessOf(options)
  const limit = Math.min(maxPage, Math.max(1, Math.floor(options.limit ?? 100)))
  const { after, only } = options
  const keys = new Set<string>()
  for (const { key, size, turn } of book.all()) if (size > 0 && turn === undefined) keys.add(key)
  for (const key of book.paused?.asides.keys() ?? []) if (key !== keyless) keys.add(key)
  for (const key of parking?.keys() ?? []) keys.add(key)
  const aggregates: Array<Aggregate> = []
  for (const key of Array.from(keys).filter((key) => after === undefined || key > after).sort()) {
    const concerns = concernsOf(
      inHandOf(book, key),
      book.paused?.asides.get(key)?.pause !== undefined,
      parking?.has(key) === true,
      now,
      slowAfter
    )
    if (concerns.length === 0 || (only !== undefined && !concerns.some((one) => only.includes(one)))) continue
    if (aggregates.length === limit) return { aggregates, next: aggregates[limit - 1]!.aggregate }
    const one = inspect(book, key, now, slowAfter, parking)
    if (one !== undefined) aggregates.push(one)
  }
  return { aggregates, next: undefined }
}

/** @internal */
export const slownessOf = (options: ListOptions): number => Duration.toMillis(options.slowAfter ?? "10 seconds")

const concernsOf = (
  flight: Flight | undefined,
  isPaused: boolean,
  isParked: boolean,
  now: number,
  slowAfter: number
): ReadonlyArray<Concern> => {
  const concerns: Array<Concern> = isPaused ? ["paused"] : []
  if (isParked) concerns.push("parked")
  if (flight === undefined) return concerns
  if (flight.isHeld) concerns.push("held")
  else if (flight.lastCause !== undefined) concerns.push("retrying")
  if (flight.state === "running" && now - flight.since >= slowAfter) concerns.push("slow")
  return concerns
}

const waitOf = (book: AddressBook, flight: Flight | undefined, isPaused: boolean): Wait => {
  if (flight?.state === "running") return "handler"
  if (flight?.state === "dead-lettering") return "dead-letter"
  if (flight?.state === "parking") return "parked"
  if (isPaused) return "paused"
  if (book.paused?.isAll === true) {
    return flight?.state === "waiting" && (flight.waitsFor === "circuit" || flight.waitsFor === "guard")
      ? flight.waitsFor
      : "subscription-paused"
  }
  if (flight?.state === "held") return "held"
  return flight?.state === "waiting" ? flight.waitsFor : "slot"
}

/** Without the lines of stacks. */
const shortly = (cause: Cause.Cause<unknown>): string =>
  Safely.cut(describeCause(cause).split("\n").filter((line) => !/^\s+at /.test(line)).join("\n"), maxCause)

const shown = (flight: Flight, now: number): InHand => ({
  position: flight.position,
  state: flight.state,
  inState: Math.max(0, now - flight.since),
  age: Math.max(0, now - flight.takenAt),
  attempts: flight.attempt,
  restarts: flight.restarts,
  cause: flight.lastCause && shortly(flight.lastCause)
})
