const blockSize = 8_192

/**
 * Copies of small byte arrays in blocks of memory that they share: memory of its own costs an array of a few hundred bytes
 * more than its copy, and each one has to be collected by itself. A block lives as long as one of its copies.
 *
 * @internal
 */
export class BytePool {
  private block = new Uint8Array(0)
  private used = 0

  copy(bytes: Uint8Array): Uint8Array {
    const { length } = bytes
    // Not `slice`, which for a Buffer is no copy.
    if (length > blockSize / 2) return new Uint8Array(bytes)
    if (this.used + length > this.block.length) {
      this.block = new Uint8Array(blockSize)
      this.used = 0
    }
    const copy = this.block.subarray(this.used, this.used + length)
    copy.set(bytes)
    this.used += length
    return copy
  }
}
