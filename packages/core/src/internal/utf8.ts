/**
 * Text as bytes. Short ones are parts of a pool: memory of their own is dear to make and to collect, because it is
 * outside of the heap.
 */
const encoder = new TextEncoder()

/** As large as Node's own. */
const poolSize = 8_192

/** Up to so many characters come from the pool; a character is up to three bytes. */
const short = poolSize >> 3

let pool = new Uint8Array(poolSize)
let used = 0

/** @internal */
export const encode = (text: string): Uint8Array => {
  const { length } = text
  if (length > short) return encoder.encode(text)
  if (used + length * 3 > poolSize) {
    pool = new Uint8Array(poolSize)
    used = 0
  }
  const start = used
  used += encoder.encodeInto(text, pool.subarray(start)).written
  return pool.subarray(start, used)
}
