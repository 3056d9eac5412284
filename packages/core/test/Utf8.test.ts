import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import * as Utf8 from "../src/internal/utf8.js"

describe("Utf8", () => {
  it("encodes as TextEncoder does, also at the end of a pool, and leaves alone what it encoded before", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 400 }),
      fc.fullUnicodeString({ maxLength: 400 }),
      // Lone surrogates, too.
      fc.string16bits({ maxLength: 400 }),
      fc.integer({ min: 1_000, max: 1_100 }).map((length) => "€".repeat(length))
    )
    fc.assert(
      fc.property(fc.array(text, { minLength: 20, maxLength: 60 }), (texts) => {
        const encoded = texts.map(Utf8.encode)
        encoded.forEach((bytes, i) => assert.deepStrictEqual([...bytes], [...new TextEncoder().encode(texts[i]!)]))
      }),
      { numRuns: 50 }
    )
  })

  it("keeps no more than a pool of 8 KiB alive", () => {
    for (const length of [0, 1, 1_024, 1_025, 100_000]) {
      const bytes = Utf8.encode("a".repeat(length))
      assert.strictEqual(bytes.length, length)
      assert.isAtMost(bytes.buffer.byteLength, Math.max(8_192, length))
    }
  })
})
