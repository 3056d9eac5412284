import type { DeadLetter } from "../../DeadLetter.js"
import * as Headers from "../../Headers.js"

/** @internal */
export const names = {
  from: "X-Released-From",
  id: "X-Released-Id",
  timestamp: "X-Released-Timestamp",
  count: "X-Released-Count",
  by: "X-Released-By",
  why: "X-Released-Why"
} as const

const maxText = 256

/** Printable ASCII on one line: the safest header value on every broker. */
const oneLine = (text: string): string =>
  text.replace(/\s+/g, " ").replace(/[^\x20-\x7e]/g, "?").trim().slice(0, maxText)

/** The original's headers, and what the release has changed. */
export const ofReleased = (
  { original, timestamp }: DeadLetter,
  from: string,
  id: string,
  { who, why }: { readonly who: string; readonly why: string }
): Headers.Headers =>
  Headers.merge(original.headers, {
    [names.from]: from,
    [names.id]: id,
    ...(timestamp === undefined ? {} : { [names.timestamp]: String(timestamp) }),
    [names.count]: String(countOf(original.headers) + 1),
    [names.by]: oneLine(who),
    [names.why]: oneLine(why)
  })

const countOf = (headers: Headers.Headers): number => {
  const count = Number(Headers.get(headers, names.count) ?? 0)
  return Number.isSafeInteger(count) && count >= 0 ? count : 0
}
