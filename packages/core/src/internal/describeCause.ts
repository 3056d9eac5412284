import type * as Cause from "effect/Cause"
import { isEventBusError } from "../EventBusError.js"
import * as ParseIssue from "./parseIssue.js"
import * as Safely from "./safely.js"

/** What is logged or shown of a cause has this many characters at most. */
const maxLength = 4_096

/** How many failures and defects of one cause are described, how many lines of each stack, and how deep an error's own causes go. */
const maxReasons = 5
const maxFrames = 10
const maxCauses = 3

/** The longest message of one error, and the longest text among an error's fields. */
const maxMessage = 2_048
const maxField = 100
const maxFields = 10

/**
 * A cause as text for logs, messages and headers. Its length has a bound. It never throws, for any thrown value. What a Schema says is
 * shown without payload. `Cause.pretty` guarantees none of these.
 *
 * @internal
 */
export const describeCause = (cause: Cause.Cause<unknown>): string => {
  const found = reasonsOf(cause)
  const texts = found.slice(0, maxReasons).map((reason) =>
    reason._tag === "Interrupt" ? "it was interrupted" : describeError(reason.value)
  )
  if (found.length > maxReasons) texts.push("…")
  return Safely.cut(texts.join("\n"), maxLength)
}

/**
 * The error that a cause is called by: the first typed failure, else the first defect.
 *
 * @internal
 */
export const nameOf = (cause: Cause.Cause<unknown>): string => {
  const found = reasonsOf(cause)
  const first = found.find(({ _tag }) => _tag === "Fail") ?? found.find(({ _tag }) => _tag === "Die")
  return first === undefined || first._tag === "Interrupt" ? "Interrupted" : Safely.nameOf(first.value)
}

type Reason = { readonly _tag: "Fail" | "Die"; readonly value: unknown } | { readonly _tag: "Interrupt" }

/** Without recursion: a cause can be deep. Interruptions count where there is nothing else. */
const reasonsOf = (cause: Cause.Cause<unknown>): ReadonlyArray<Reason> => {
  const found: Array<Reason> = []
  const rest = [cause]
  let isInterrupted = false
  while (rest.length > 0 && found.length <= maxReasons) {
    const next = rest.pop()!
    switch (next._tag) {
      case "Fail":
        found.push({ _tag: "Fail", value: next.error })
        break
      case "Die":
        found.push({ _tag: "Die", value: next.defect })
        break
      case "Interrupt":
        isInterrupted = true
        break
      case "Sequential":
      case "Parallel":
        rest.push(next.right, next.left)
    }
  }
  return found.length === 0 && isInterrupted ? [{ _tag: "Interrupt" }] : found
}

const describeError = (error: unknown): string => {
  // Where our own errors were made tells nothing.
  const lines = isOurs(error) ? [headline(error)] : [headline(error), ...framesOf(error)]
  let next = error
  for (let i = 0; i < maxCauses; i++) {
    // The causes of our own errors are for programs: they hold what a Schema or a codec saw.
    if (isOurs(next)) break
    next = Safely.get(next, "cause")
    if (next === undefined) break
    lines.push(`  caused by ${headline(next)}`)
  }
  return lines.join("\n")
}

const isOurs = (error: unknown): boolean => {
  try {
    return isEventBusError(error)
  } catch {
    return true
  }
}

const headline = (error: unknown): string => {
  if (typeof error === "string") return Safely.cut(error, maxMessage)
  if (typeof error === "function") return "a function"
  if (typeof error !== "object" || error === null) return Safely.cut(String(error), maxMessage)
  const name = Safely.nameOf(error)
  const message = messageOf(error)
  return message === "" ? `${name}${fieldsOf(error)}` : `${name}: ${Safely.cut(message, maxMessage)}`
}

const messageOf = (error: object): string => {
  if (!Safely.isParseError(error)) return Safely.text(error, "message") ?? ""
  try {
    return ParseIssue.format(error.issue)
  } catch {
    return ""
  }
}

/** An error without a message is known by its fields, as far as they are numbers, booleans and short texts. */
const fieldsOf = (error: object): string => {
  const fields: Array<string> = []
  try {
    for (const name of Object.keys(error)) {
      if (name === "_tag" || name === "name") continue
      if (fields.push(`${Safely.cut(name, maxField)}: ${fieldOf(Safely.get(error, name))}`) === maxFields) break
    }
  } catch {
    // Then it is known by its name.
  }
  return fields.length === 0 ? "" : ` { ${fields.join(", ")} }`
}

const fieldOf = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(Safely.cut(value, maxField))
  if (typeof value === "object" && value !== null) return "…"
  return typeof value === "function" ? "…" : Safely.cut(String(value), maxField)
}

/**
 * Where this package is, if it was not made one file with others. Its frames, those of Effect and those of Node say nothing of a failure of
 * the user's.
 */
const ownFolder = /^file:\/\/(.*\/(?:src|dist)\/)internal\/describeCause\.[jt]s$/.exec(import.meta.url)?.[1]

const isInner = (line: string): boolean =>
  /[\\/]node_modules[\\/](?:.*[\\/]node_modules[\\/])?(?:effect|@effect|@effect-eventbus)[\\/]|\(?node:internal[\\/]/
    .test(line) ||
  (ownFolder !== undefined && line.includes(ownFolder))

/** A stack without its first lines, which repeat the message in full length. */
const framesOf = (error: unknown): ReadonlyArray<string> => {
  if (!Safely.isError(error)) return []
  const stack = Safely.text(error, "stack")
  if (stack === undefined) return []
  const message = Safely.text(error, "message") ?? ""
  // The frames follow the message, which may have any number of lines and look like frames.
  const from = message === "" ? -1 : stack.indexOf(message)
  const frames: Array<string> = []
  for (const line of stack.slice(from === -1 ? 0 : from + message.length).split("\n", maxFrames + 20)) {
    if (/^ {4}at /.test(line) && !isInner(line)) frames.push(Safely.cut(line.slice(2), 300))
    if (frames.length === maxFrames) break
  }
  return frames
}
