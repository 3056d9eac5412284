import type { Headers } from "../Headers.js"
import type { IncomingMessage } from "../Transport.js"

const blockSize = 8_192

/**
 * A message in a log. Its bytes are in a block that it shares with its neighbours, and reading makes the arrays that show them. An
 * array of its own for each message would take more memory than a small message's bytes, as long as the log keeps it.
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
    /** -1: there is no key. */
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
 * Writes messages into blocks, one after the other. Neighbours in the log are deleted at about the same time, and so is their block.
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
    // A large message has a block of its own. So it keeps no other message's bytes in memory, and no other message keeps its bytes.
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
