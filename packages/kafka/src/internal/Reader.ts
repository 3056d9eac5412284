/** Reads the protocol's numbers, texts and bytes, one after the other. */
export class Reader {
  at = 0
  constructor(private readonly buffer: Buffer) {}

  int8(): number {
    return this.buffer.readInt8(this.at++)
  }
  int16(): number {
    return this.buffer.readInt16BE((this.at += 2) - 2)
  }
  int32(): number {
    return this.buffer.readInt32BE((this.at += 4) - 4)
  }
  int64(): number {
    return int64(this.buffer, (this.at += 8) - 8)
  }
  bigint(): bigint {
    return this.buffer.readBigInt64BE((this.at += 8) - 8)
  }
  skip(bytes: number): void {
    this.at += bytes
  }
  bytes(length: number): Buffer {
    return this.buffer.subarray(this.at, this.at += length)
  }
  text(length: number): string {
    return this.buffer.toString("utf8", this.at, this.at += length)
  }
  string(): string {
    return this.text(Math.max(0, this.int16()))
  }
  nullableString(): string | null {
    const length = this.int16()
    return length < 0 ? null : this.text(length)
  }
  /** With a length of four bytes; none where it is null. */
  block(): Buffer {
    return this.bytes(Math.max(0, this.int32()))
  }
  array<A>(one: () => A): Array<A> {
    return this.times(this.int32(), one)
  }
  /** How many they are is only said: memory is taken for those that are there. */
  private times<A>(count: number, one: () => A): Array<A> {
    const found: Array<A> = []
    for (; count > 0; count--) found.push(one())
    return found
  }
  /** A number of variable length, without a sign. */
  unsigned(): number {
    let value = 0
    for (let factor = 1;; factor *= 0x80) {
      const byte = this.buffer.readUInt8(this.at++)
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
  }
  compact(): string {
    return this.text(Math.max(0, this.unsigned() - 1))
  }
  compactArray<A>(one: () => A): Array<A> {
    return this.times(this.unsigned() - 1, one)
  }
  /** Passes fields of later versions. */
  tags(): void {
    for (let count = this.unsigned(); count > 0; count--) {
      this.unsigned()
      this.skip(this.unsigned())
    }
  }
  nullable(): Buffer | null {
    const length = this.varint()
    return length < 0 ? null : this.bytes(length)
  }
  /** The length of what was skipped, below 0 where it is null. */
  skipNullable(): number {
    const length = this.varint()
    if (length > 0) this.at += length
    return length
  }
  /** A zigzag number of up to 53 bits. */
  varint(): number {
    const { buffer } = this
    let byte = buffer[this.at++]!
    // Most are of one byte or two.
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let value = byte & 0x7f
    byte = buffer[this.at++]!
    if (byte < 0x80) {
      value |= byte << 7
      return (value >>> 1) ^ -(value & 1)
    }
    let factor = 0x80
    value += (byte & 0x7f) * factor
    while (byte >= 0x80) {
      factor *= 0x80
      byte = buffer[this.at++]!
      value += (byte & 0x7f) * factor
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }
}

export const int64 = (buffer: Buffer, at: number): number =>
  buffer.readInt32BE(at) * 0x1_0000_0000 + buffer.readUInt32BE(at + 4)
