/**
 * The identity of an aggregate: what messages are ordered by.
 *
 * @since 0.1.0
 */
import * as Headers from "./Headers.js"

/**
 * The longest aggregate id, in characters.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxLength = 256

/**
 * The headers that carry an aggregate id, in the order in which they are asked.
 * Their names match in any letter case.
 *
 * @since 0.1.0
 * @category constants
 */
export const headerNames = ["X-Aggregate-ID", "Aggregate-ID", "aggregateID"] as const

const pattern = /^[A-Za-z0-9:_\-./]{1,256}$/

/**
 * Whether a value is an aggregate id: 1 to 256 of `A-Z a-z 0-9 : _ - . /`.
 *
 * @since 0.1.0
 * @category refinements
 */
export const isValid = (value: unknown): value is string => typeof value === "string" && pattern.test(value)

/**
 * The first valid aggregate id among the headers, if there is one.
 *
 * @since 0.1.0
 * @category extraction
 */
export const fromHeaders = (headers: Headers.Headers): string | undefined => {
  let found: string | undefined
  let rank: number = headerNames.length
  for (const name in headers) {
    const position = rankOf(name)
    if (position < rank) {
      const value = Headers.get({ [name]: headers[name] }, name)
      if (isValid(value)) {
        found = value
        rank = position
      }
    }
  }
  return found
}

const ranks = new Map(headerNames.map((name, index) => [name.toLowerCase(), index]))

// The names are 11 to 14 characters long, which spares most headers a look-up.
const rankOf = (name: string): number => {
  if (name.length < 11 || name.length > 14) return headerNames.length
  return ranks.get(name.toLowerCase()) ?? headerNames.length
}

// A key that begins with a byte order mark is another key than the one without.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/**
 * A message's key as an aggregate id, if it is a valid one.
 *
 * @since 0.1.0
 * @category extraction
 */
export const fromKey = (key: Uint8Array | null): string | undefined => {
  if (key === null || key.length === 0 || key.length > maxLength) return undefined
  const text = decoder.decode(key)
  return isValid(text) ? text : undefined
}

/**
 * The last token of a NATS subject that is a valid aggregate id. Asked only
 * where a subscription says so.
 *
 * @since 0.1.0
 * @category extraction
 */
export const fromSubject = (subject: string): string | undefined => {
  const tokens = subject.split(".")
  for (let i = tokens.length - 1; i >= 0; i--) {
    if (isValid(tokens[i])) return tokens[i]
  }
  return undefined
}
