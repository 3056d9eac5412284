/**
 * Text as bytes. The bytes of short texts are parts of a pool, because an array with memory of its own is expensive to make and to
 * collect: that memory is outside of the heap.
 */
const encoder = new TextEncoder()

/** As large as Node's own. */
const poolSize = 8_192

/** Texts up to this number of characters use the pool. A character has up to three bytes. */
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
