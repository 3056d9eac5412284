import { CommitMetadata } from "@effect-eventbus/kafka"
import { FastCheck as fc, Option } from "effect"
import { describe, expect, it } from "vitest"

/** Ascending ranges with gaps, above a commit. */
const commits = fc.tuple(
  fc.nat({ max: 2 ** 48 }),
  fc.boolean(),
  fc.array(fc.tuple(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: 100_000 })), { maxLength: 400 })
).map(([offset, clean, steps]) => {
  let end = offset
  const finished = steps.map(([gap, length]): readonly [number, number] => {
    const from = end + gap
    end = from + length
    return [from, end]
  })
  return { offset, clean, finished }
})

describe("CommitMetadata", () => {
  it("what is encoded is decoded, where there is room", () => {
    fc.assert(fc.property(commits, ({ clean, finished, offset }) => {
      const encoded = CommitMetadata.encode(offset, { clean, finished }, 1_000_000)
      expect(encoded.coversBelow).toBe(Infinity)
      expect(CommitMetadata.decode(offset, encoded.text)).toEqual(Option.some({ clean, finished }))
    }))
  })

  it("whose offsets they are, and in which epochs they were committed, is decoded, too", () => {
    const fields = fc.record({
      topicId: fc.hexaString({ minLength: 32, maxLength: 32 }),
      leaderEpoch: fc.nat(),
      epoch: fc.nat({ max: 2 ** 50 })
    }, { requiredKeys: [] })
    fc.assert(fc.property(commits, fields, ({ clean, finished, offset }, own) => {
      const { text } = CommitMetadata.encode(offset, { clean, finished, ...own }, 1_000_000)
      expect(CommitMetadata.decode(offset, text)).toEqual(Option.some({ clean, finished, ...own }))
      expect(text.slice(0, 4)).toBe(Object.keys(own).length === 0 ? "eb1." : "eb2.")
    }))
  })

  it("where there is no room at all, nothing is said, and nothing is covered", () => {
    const metadata = { clean: true, topicId: "0".repeat(32), epoch: 2 ** 40 }
    expect(CommitMetadata.encode(5, { ...metadata, finished: [[7, 9]] }, 0)).toEqual({ text: "", coversBelow: 7 })
    expect(CommitMetadata.encode(5, { ...metadata, finished: [] }, 0)).toEqual({ text: "", coversBelow: Infinity })
    expect(CommitMetadata.encode(5, { ...metadata, finished: [[7, 9]] }, 64)).toMatchObject({ coversBelow: Infinity })
  })

  it("the text never exceeds its bound, and says exactly what is below `coversBelow`", () => {
    fc.assert(fc.property(commits, fc.integer({ min: 20, max: 4_096 }), ({ clean, finished, offset }, maxBytes) => {
      const { coversBelow, text } = CommitMetadata.encode(offset, { clean, finished }, maxBytes)
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxBytes)
      const decoded = Option.getOrThrow(CommitMetadata.decode(offset, text))
      expect(decoded.finished).toEqual(finished.filter(([from]) => from < coversBelow))
      if (decoded.clean) expect(clean && coversBelow === Infinity).toBe(true)
    }))
  })

  it("2,000 ranges of single offsets have room in Kafka's 4,096 bytes at 1,500", () => {
    const finished = Array.from({ length: 2_000 }, (_, i) => [11 + i * 2, 12 + i * 2] as const)
    const { coversBelow, text } = CommitMetadata.encode(10, { clean: false, finished })
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4_096)
    expect(finished.filter(([from]) => from < coversBelow).length).toBeGreaterThan(1_500)
  })

  it("text that is not ours, of another version or damaged is ignored", () => {
    fc.assert(fc.property(fc.string(), (text) => {
      fc.pre(!/^eb[12]\./.test(text))
      expect(Option.isNone(CommitMetadata.decode(5, text))).toBe(true)
    }))
    expect(CommitMetadata.decode(5, null)).toEqual(Option.none())
    expect(CommitMetadata.decode(5, "eb3.AAEB")).toEqual(Option.none())
    // It announces an id, and flags of a later version.
    expect(CommitMetadata.decode(5, "eb2.AgEB")).toEqual(Option.none())
    expect(CommitMetadata.decode(5, "eb2.EAEB")).toEqual(Option.none())
    expect(CommitMetadata.decode(5, "eb1.")).toEqual(Option.none())
    expect(CommitMetadata.decode(5, "eb1.!!!")).toEqual(Option.none())
    const { text } = CommitMetadata.encode(5, { clean: true, finished: [[1_000, 2_000]] })
    for (let length = 7; length < text.length; length++) {
      const decoded = CommitMetadata.decode(5, text.slice(0, length))
      if (Option.isSome(decoded)) expect(decoded.value.finished.every(([from, to]) => from < to)).toBe(true)
    }
  })

  it("any bytes after the prefix are read without an exception, as ascending ranges or not at all", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(), fc.constantFrom(1, 2), (bytes, offset, version) => {
        const decoded = CommitMetadata.decode(offset, `eb${version}.${Buffer.from(bytes).toString("base64url")}`)
        if (Option.isNone(decoded)) return
        let end = offset
        for (const [from, to] of decoded.value.finished) {
          expect(from).toBeGreaterThanOrEqual(end)
          expect(to).toBeGreaterThan(from)
          end = to
        }
      })
    )
  })
})
