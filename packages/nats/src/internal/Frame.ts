/** A message with headers as it goes over the wire, in one piece of memory, which is kept for repeating it. */
export class Frame {
  private constructor(
    readonly subject: string,
    readonly reply: string,
    /** The protocol's line, the headers, the value, and the end of the line. */
    readonly bytes: Uint8Array,
    private readonly headersAt: number,
    private readonly valueAt: number
  ) {}

  /** `headersSize` is the length of the header block in bytes. */
  static make(subject: string, reply: string, headers: string, headersSize: number, value: Uint8Array): Frame {
    const text = `HPUB ${subject} ${reply} ${headersSize} ${headersSize + value.length}\r\n${headers}`
    const valueAt = Buffer.byteLength(text)
    // From the pool: memory of their own for a few hundred bytes is dear to make, and to collect.
    const bytes = Buffer.allocUnsafe(valueAt + value.length + 2)
    bytes.write(text)
    bytes.set(value, valueAt)
    bytes[bytes.length - 2] = 13
    bytes[bytes.length - 1] = 10
    return new Frame(subject, reply, bytes, valueAt - headersSize, valueAt)
  }

  get headers(): Uint8Array {
    return this.bytes.subarray(this.headersAt, this.valueAt)
  }

  get value(): Uint8Array {
    return this.bytes.subarray(this.valueAt, -2)
  }

  /** What the server counts. */
  get size(): number {
    return this.bytes.length - 2 - this.headersAt
  }

  /** The same message with its answer elsewhere. */
  to(reply: string): Frame {
    const { headers, subject, value } = this
    const line = Buffer.from(`HPUB ${subject} ${reply} ${headers.length} ${this.size}\r\n`)
    const bytes = Buffer.concat([line, this.bytes.subarray(this.headersAt)])
    return new Frame(subject, reply, bytes, line.length, bytes.length - 2 - value.length)
  }
}
