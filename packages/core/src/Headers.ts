/**
 * Message headers, as Kafka and NATS have them: names in any letter case, each
 * with one value or several, a value being text or bytes.
 *
 * @since 0.1.0
 */

/**
 * One header value. Kafka's are bytes; NATS and people write text.
 *
 * @since 0.1.0
 * @category models
 */
export type HeaderValue = string | Uint8Array

/**
 * The headers of a message. The shape is the one that both clients already
 * hand over, so that reading a message copies nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface Headers {
  readonly [name: string]: HeaderValue | ReadonlyArray<HeaderValue> | undefined
}

/**
 * No headers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const empty: Headers = Object.freeze({})

const decoder = new TextDecoder()

/**
 * A header value as text. Bytes are read as UTF-8, with U+FFFD for what is not.
 *
 * @since 0.1.0
 * @category accessors
 */
export const valueToString = (value: HeaderValue): string => typeof value === "string" ? value : decoder.decode(value)

/**
 * The first value of a header as text. An exact match of the name wins over
 * one in another letter case.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = (headers: Headers, name: string): string | undefined => {
  let value = Object.hasOwn(headers, name) ? headers[name] : undefined
  if (value === undefined) {
    const wanted = name.toLowerCase()
    for (const key in headers) {
      if (key.length === wanted.length && key.toLowerCase() === wanted) {
        value = headers[key]
        break
      }
    }
  }
  if (value === undefined || value === null) return undefined
  if (typeof value === "string") return value
  if (value instanceof Uint8Array) return valueToString(value)
  return value.length === 0 ? undefined : valueToString(value[0]!)
}

/**
 * These headers with others added. A name that is set again, in any letter
 * case, replaces the old one.
 *
 * @since 0.1.0
 * @category combinators
 */
export const merge = (headers: Headers, added: Headers): Headers => {
  const given = Object.keys(added)
  if (given.length === 0) return headers
  const names = new Set(given.map((name) => name.toLowerCase()))
  const kept = Object.entries(headers).filter(([name]) => !names.has(name.toLowerCase()))
  // Not by assignment: a header may be called `__proto__`.
  return Object.fromEntries([...kept, ...Object.entries(added)])
}
