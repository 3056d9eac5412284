import type { Headers } from "../Headers.js"
import type { IncomingMessage } from "../Transport.js"

const blockSize = 8_192

/**
 * A message in a log. Its bytes lie in a block that it shares with its neighbours; whoever reads it makes the arrays that show
 * them. An array for each, with memory of its own, takes more than a small message's bytes, as long as the log keeps it.
 *
 * @internal
 */
export class StoredMessage {
  constructor(
    readonly offset: number,
    readonly headers: Headers,
    readonly timestamp: number,
    private readonly block: Uint8Array,
    /** Where the key begins; the value follows it. */
    private readonly at: number,
    /** -1 where there is none. */
    private readonly keyLength: number,
    private readonly valueLength: number
  ) {}

  incoming(topic: string, partition: number, maybeDuplicate: boolean): IncomingMessage {
    const { at, block, keyLength, valueLength } = this
    const middle = at + Math.max(0, keyLength)
    return {
      topic,
      partition,
      offset: this.offset,
      key: keyLength === -1 ? null : block.subarray(at, middle),
      value: valueLength === -1 ? null : block.subarray(middle, middle + valueLength),
      headers: this.headers,
      timestamp: this.timestamp,
      maybeDuplicate,
      deliveryCount: undefined
    }
  }
}

/**
 * Writes messages into blocks, one after the other: what is next to each other in the log goes from it at about the same time.
 *
 * @internal
 */
export class Blocks {
  private block = new Uint8Array(0)
  private used = 0

  write(
    offset: number,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: Headers,
    timestamp: number
  ): StoredMessage {
    const keyLength = key === null ? 0 : key.length
    const length = keyLength + (value === null ? 0 : value.length)
    // A large one has a block of its own, so that it keeps nobody else's bytes, and nobody else keeps it.
    const isLarge = length > blockSize / 2
    if (!isLarge && this.used + length > this.block.length) {
      this.block = new Uint8Array(blockSize)
      this.used = 0
    }
    const block = isLarge ? new Uint8Array(length) : this.block
    const at = isLarge ? 0 : this.used
    if (key !== null) block.set(key, at)
    if (value !== null) block.set(value, at + keyLength)
    if (!isLarge) this.used += length
    return new StoredMessage(
      offset,
      headers,
      timestamp,
      block,
      at,
      key === null ? -1 : keyLength,
      value === null ? -1 : value.length
    )
  }
}
