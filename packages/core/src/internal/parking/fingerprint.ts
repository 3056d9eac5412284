import type * as Cause from "effect/Cause"
import { describeCause, nameOf } from "../describeCause.js"
import * as Safely from "../safely.js"

const maxFrame = 300
const maxText = 500

/**
 * What tells causes apart: the error's tag, and the first frame of the user's code.
 *
 * @internal
 */
export interface Fingerprint {
  readonly error: string
  /** Undefined: no frame of it is the user's. */
  readonly frame: string | undefined
}

/** @internal */
export const ofCause = (cause: Cause.Cause<unknown>): Fingerprint => {
  const frame = describeCause(cause).split("\n").find((line) => /^\s+at /.test(line))?.trim().slice(3)
  return { error: nameOf(cause), frame: frame && Safely.cut(withoutQuery(frame), maxFrame) }
}

/** One text for equal fingerprints. */
export const idOf = ({ error, frame }: Fingerprint): string => frame === undefined ? error : `${error} at ${frame}`

/** A cause without the lines of its stacks. What a Schema says is without payload. */
export const textOf = (cause: Cause.Cause<unknown>): string =>
  Safely.cut(describeCause(cause).split("\n").filter((line) => !/^\s+at /.test(line)).join("\n"), maxText)

/** A loader that adds a query to a module's address makes a new one at each start. */
const withoutQuery = (frame: string): string => frame.replace(/\?[^:)\s]*/, "")
