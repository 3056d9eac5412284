/** The checksum of record batches (Castagnoli), sixteen bytes at a time. Node has no such function of its own. */

const POLYNOMIAL = 0x82f63b78

type Table = Int32Array

/** `tables[n]` says what a byte does to the checksum when `n` more bytes follow it. */
const tables = Array.from({ length: 16 }, () => new Int32Array(256))
// One by one: their lengths are known to the compiler then, and nothing is checked for each byte.
const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [Table, Table, Table, Table, Table, Table, Table, Table]
const [t8, t9, t10, t11, t12, t13, t14, t15] = tables.slice(8) as [
  Table,
  Table,
  Table,
  Table,
  Table,
  Table,
  Table,
  Table
]
for (let byte = 0; byte < 256; byte++) {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0)
  t0[byte] = crc
}
for (let byte = 0; byte < 256; byte++) {
  for (let n = 1; n < 16; n++) {
    const before = tables[n - 1]![byte]!
    tables[n]![byte] = (before >>> 8) ^ t0[before & 0xff]!
  }
}

const isLittleEndian = new Uint8Array(new Int32Array([1]).buffer)[0] === 1

/** Of the bytes from one position up to another. */
export const crc32c = (bytes: Uint8Array, from: number, to: number): number => {
  let crc = -1
  let at = from
  const { buffer, byteOffset } = bytes
  if (isLittleEndian && to - from > 16) {
    for (; at < to && (byteOffset + at) % 4 !== 0; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!
    const words = new Int32Array(buffer, byteOffset + at, ((to - at) >>> 4) * 4)
    for (let i = 0; i < words.length; i += 4) {
      const a = crc ^ words[i]!
      const b = words[i + 1]!
      const c = words[i + 2]!
      const d = words[i + 3]!
      crc = t15[a & 0xff]! ^ t14[(a >>> 8) & 0xff]! ^ t13[(a >>> 16) & 0xff]! ^ t12[a >>> 24]! ^
        t11[b & 0xff]! ^ t10[(b >>> 8) & 0xff]! ^ t9[(b >>> 16) & 0xff]! ^ t8[b >>> 24]! ^
        t7[c & 0xff]! ^ t6[(c >>> 8) & 0xff]! ^ t5[(c >>> 16) & 0xff]! ^ t4[c >>> 24]! ^
        t3[d & 0xff]! ^ t2[(d >>> 8) & 0xff]! ^ t1[(d >>> 16) & 0xff]! ^ t0[d >>> 24]!
    }
    at += words.length * 4
  }
  for (; at < to; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!
  return ~crc >>> 0
}
