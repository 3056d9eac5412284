/**
 * Looks at values that users' code threw. A revoked Proxy throws at every look, an object's getters may throw, and a text may have
 * any length. The functions here never throw, and their answers have a bound.
 */
import * as ParseResult from "effect/ParseResult"

/**
 * A member of a value; undefined where there is none, or where looking for it throws.
 *
 * @internal
 */
export const get = (value: unknown, name: PropertyKey): unknown => {
  try {
    return typeof value === "object" && value !== null || typeof value === "function"
      ? (value as { readonly [name: PropertyKey]: unknown })[name]
      : undefined
  } catch {
    return undefined
  }
}

/**
 * A member of a value, if it is a text.
 *
 * @internal
 */
export const text = (value: unknown, name: PropertyKey): string | undefined => {
  const found = get(value, name)
  return typeof found === "string" ? found : undefined
}

/** @internal */
export const isError = (value: unknown): value is Error => {
  try {
    return value instanceof Error
  } catch {
    return false
  }
}

/** @internal */
export const isParseError = (value: unknown): value is ParseResult.ParseError => {
  try {
    return ParseResult.isParseError(value)
  } catch {
    return false
  }
}

/**
 * What an error is called: its `_tag`, else its name, else the kind of value that it is.
 *
 * @internal
 */
export const nameOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return error === null ? "null" : typeof error
  const tag = text(error, "_tag")
  if (tag !== undefined && tag !== "") return cut(tag, maxName)
  const name = isError(error) ? text(error, "name") : undefined
  return name === undefined || name === "" ? "object" : cut(name, maxName)
}

const maxName = 256

/**
 * A text cut to a number of characters. The last one is an ellipsis if something was cut.
 *
 * @internal
 */
export const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`
