import * as Cause from "effect/Cause"
import * as Option from "effect/Option"

const errorOf = (cause: Cause.Cause<unknown>): unknown =>
  Option.getOrElse(Cause.failureOption(cause), () => Option.getOrUndefined(Cause.dieOption(cause)))

/** Names of errors are labels, so they are short. */
const maxLength = 128

/**
 * The name of what failed, for `error.type`: the tag or the class of the typed failure or defect, never its message.
 *
 * @internal
 */
export const nameOf = (cause: Cause.Cause<unknown> | undefined): string => {
  if (cause === undefined) return "_OTHER"
  const error = errorOf(cause)
  if (error === undefined) return Cause.isInterrupted(cause) ? "interrupted" : "_OTHER"
  try {
    if (typeof error !== "object" || error === null) return typeof error
    const { _tag, name } = error as { readonly _tag?: unknown; readonly name?: unknown }
    const found = typeof _tag === "string" && _tag !== "" ? _tag : typeof name === "string" && name !== "" ? name : ""
    return found === "" ? error.constructor.name.slice(0, maxLength) || "_OTHER" : found.slice(0, maxLength)
  } catch {
    return "_OTHER"
  }
}

/** Longer messages are cut in spans. */
const maxMessage = 512

/**
 * What a typed failure or defect says. An error's own message only, and nothing of its fields, causes and stack.
 *
 * @internal
 */
export const messageOf = (cause: Cause.Cause<unknown>): string => {
  const error = errorOf(cause)
  try {
    const text = typeof error === "string" ? error : error instanceof Error ? error.message : ""
    return typeof text === "string" ? text.slice(0, maxMessage) : ""
  } catch {
    return ""
  }
}
