/**
 * What a process saw, one line for each event, in a file of its own. A line is
 * written before the process goes on, so that a kill can't take it back. Times are of the
 * machine's monotonic clock, which all its processes share.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, writeSync } from "node:fs"

/**
 * `S`tarted, `F`inished (the bus goes on to the next message), `T`ried (it will be run again), `I`nterrupted,
 * `P`ublished and confirmed, `U`nknown whether published; `O`nce: a plain message's handler started, `Q`: one was published.
 */
export type Kind = "S" | "F" | "T" | "I" | "P" | "U" | "O" | "Q"

export interface Entry {
  readonly kind: Kind
  /** Nanoseconds. */
  readonly at: bigint
  readonly process: string
  readonly aggregate: string
  readonly sequence: number
  /** Of the delivery: which assignment it came from. */
  readonly epoch: number
  readonly maybeDuplicate: boolean
}

export type Write = (kind: Kind, aggregate: string, sequence: number, epoch?: number, maybeDuplicate?: boolean) => void

export const writer = (file: string): Write => {
  const descriptor = openSync(file, "a")
  return (kind, aggregate, sequence, epoch = 0, maybeDuplicate = false) => {
    writeSync(
      descriptor,
      `${kind} ${process.hrtime.bigint()} ${aggregate} ${sequence} ${epoch} ${maybeDuplicate ? 1 : 0}\n`
    )
  }
}

/** A line that was cut off by the kill did not happen. */
export const read = (file: string, process: string): ReadonlyArray<Entry> =>
  readFileSync(file, "utf8").split("\n").slice(0, -1).map((line) => {
    const [kind, at, aggregate, sequence, epoch, maybeDuplicate] = line.split(" ")
    return {
      kind: kind as Kind,
      at: BigInt(at!),
      process,
      aggregate: aggregate!,
      sequence: Number(sequence),
      epoch: Number(epoch),
      maybeDuplicate: maybeDuplicate === "1"
    }
  })

/** Counts what is finished in a log that is still being written: what a process says of itself is gone with it. */
export const follower = (file: string): () => number => {
  const chunk = Buffer.alloc(1 << 20)
  let position = 0
  let count = 0
  let atLineStart = true
  return () => {
    if (!existsSync(file)) return 0
    const descriptor = openSync(file, "r")
    for (;;) {
      const length = readSync(descriptor, chunk, 0, chunk.length, position)
      if (length === 0) break
      position += length
      for (let i = 0; i < length; i++) {
        if (atLineStart && chunk[i] === 0x46) count++
        atLineStart = chunk[i] === 0x0a
      }
    }
    closeSync(descriptor)
    return count
  }
}
