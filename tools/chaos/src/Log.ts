/**
 * What a process saw, one line for each event, in a file of its own. A line is
 * written before the process goes on, so that a kill can't take it back. Times are of the
 * machine's monotonic clock, which all its processes share.
 */
import { closeSync, existsSync, openSync, readSync, writeSync } from "node:fs"

/**
 * `S`tarted, `F`inished (the bus goes on to the next message), `T`ried (it will be run again), `I`nterrupted,
 * `P`ublished and confirmed, `U`nknown whether published; `O`nce: a plain message's handler started, `Q`: one was published.
 * `W`aited: the process did not get to run, for as many ms as the sequence says. `K`ept: the message of this offset is a letter now, because its
 * aggregate is parked; `L`eft: how many letters there are in the partitions of this process.
 */
export type Kind = "S" | "F" | "T" | "I" | "P" | "U" | "O" | "Q" | "W" | "K" | "L"

export interface Entry {
  readonly kind: Kind
  /** Nanoseconds. */
  readonly at: number
  readonly process: string
  readonly aggregate: string
  readonly sequence: number
  readonly partition: number
  /** Of the delivery: where it is in its partition, and which assignment it came from. */
  readonly offset: number
  readonly epoch: number
  readonly maybeDuplicate: boolean
}

/** Where a delivery came from. */
export type Origin = Pick<Entry, "partition" | "offset" | "epoch" | "maybeDuplicate">

export type Write = (kind: Kind, aggregate: string, sequence: number, origin?: Origin) => void

/** What has no origin: it was published, not delivered. */
export const nowhere: Origin = { partition: 0, offset: 0, epoch: 0, maybeDuplicate: false }

/** To the microsecond until a machine has been up for a hundred days, and never far from it. */
export const now = (): number => Number(process.hrtime.bigint())

export const writer = (file: string): Write => {
  const descriptor = openSync(file, "a")
  return (kind, aggregate, sequence, { epoch, maybeDuplicate, offset, partition } = nowhere) => {
    writeSync(
      descriptor,
      `${kind} ${now()} ${aggregate} ${sequence} ${partition} ${epoch} ${maybeDuplicate ? 1 : 0} ${offset}\n`
    )
  }
}

const parse = (line: string, process: string): Entry => {
  const [kind, at, aggregate, sequence, partition, epoch, maybeDuplicate, offset] = line.split(" ")
  return {
    kind: kind as Kind,
    at: Number(at),
    process,
    aggregate: aggregate!,
    sequence: Number(sequence),
    partition: Number(partition),
    offset: Number(offset),
    epoch: Number(epoch),
    maybeDuplicate: maybeDuplicate === "1"
  }
}

/**
 * Reads a log that is still being written: each call answers what has come since the last one. A line that was cut off by the
 * kill did not happen, and an instance that was killed before it opened its log saw nothing.
 */
export const follower = (file: string, process: string): () => ReadonlyArray<Entry> => {
  const chunk = Buffer.alloc(1 << 18)
  let position = 0
  let rest = ""
  return () => {
    if (!existsSync(file)) return []
    const descriptor = openSync(file, "r")
    let text = rest
    for (;;) {
      const length = readSync(descriptor, chunk, 0, chunk.length, position)
      if (length === 0) break
      position += length
      // Lines are ASCII: no character is cut in two.
      text += chunk.toString("latin1", 0, length)
    }
    closeSync(descriptor)
    const lines = text.split("\n")
    rest = lines.pop()!
    return lines.map((line) => parse(line, process))
  }
}
