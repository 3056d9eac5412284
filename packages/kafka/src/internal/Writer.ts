/** Writes the protocol's numbers, texts and bytes, one after the other, into a buffer that has room for them. */
export class Writer {
  at = 0
  constructor(readonly buffer: Buffer) {}

  /** What was written so far. */
  get written(): Buffer {
    if (this.at > this.buffer.length) throw new RangeError(`${this.at} bytes have no room in ${this.buffer.length}`)
    return this.buffer.subarray(0, this.at)
  }

  int8(value: number): void {
    this.buffer[this.at++] = value
  }
  int16(value: number): void {
    this.at = this.buffer.writeInt16BE(value, this.at)
  }
  int32(value: number): void {
    this.at = this.buffer.writeInt32BE(value, this.at)
  }
  /** Of up to 53 bits. */
  int64(value: number): void {
    this.buffer.writeInt32BE(Math.floor(value / 0x1_0000_0000), this.at)
    this.buffer.writeUInt32BE(value - Math.floor(value / 0x1_0000_0000) * 0x1_0000_0000, this.at + 4)
    this.at += 8
  }
  bytes(bytes: Uint8Array): void {
    this.buffer.set(bytes, this.at)
    this.at += bytes.length
  }
  nullable(bytes: Buffer | null): void {
    if (bytes === null) return this.int8(1) // -1
    this.varint(bytes.length)
    this.bytes(bytes)
  }
  header(name: string, value: string | Buffer): void {
    this.text(name)
    if (typeof value === "string") this.text(value)
    else this.nullable(value)
  }
  /** Zigzag, of a number that is not negative. */
  varint(value: number): void {
    this.unsigned(value * 2)
  }
  /** Of variable length, and without a sign. */
  unsigned(value: number): void {
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.buffer[this.at++] = (rest % 0x80) | 0x80
    this.buffer[this.at++] = rest
  }
  /** With a length of two bytes. */
  string(text: string | null): void {
    if (text === null) return this.int16(-1)
    const size = Buffer.byteLength(text)
    this.int16(size)
    this.utf8(text, size)
  }
  /** With a length of four bytes. */
  block(bytes: Uint8Array): void {
    this.int32(bytes.length)
    this.bytes(bytes)
  }
  /** After how many there are. */
  array<A>(all: ReadonlyArray<A>, one: (value: A) => void): void {
    this.int32(all.length)
    for (const value of all) one(value)
  }
  /** With a length of variable length, one more than there is. */
  compact(text: string): void {
    const size = Buffer.byteLength(text)
    this.unsigned(size + 1)
    this.utf8(text, size)
  }
  private text(text: string): void {
    const size = Buffer.byteLength(text)
    this.varint(size)
    this.utf8(text, size)
  }
  /** What has no room is written in part: `at` says so then. */
  private utf8(text: string, size: number): void {
    this.buffer.write(text, this.at)
    this.at += size
  }
}
