import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { IncomingMessage, ReadPartition, ReadRequest } from "../Transport.js"
import type { MemoryPartition, MemoryTopic } from "./memoryLog.js"

/** How many messages are read at a time. */
const batchSize = 256

/**
 * The partitions of a bounded read. It ends where the log ends now.
 *
 * @internal
 */
export const partitions = (topic: MemoryTopic, request: ReadRequest): ReadonlyArray<ReadPartition> => {
  topic.isRead = true
  return topic.partitions.map((log, partition) => {
    const within = (offset: number) => Math.min(log.end, Math.max(log.start, offset))
    const from = within(fromOf(log, partition, request.from))
    const to = Math.max(from, within(toOf(log, partition, request.to)))
    return { partition, from, to, messages: messages(topic.name, log, partition, from, to) }
  })
}

const fromOf = (log: MemoryPartition, partition: number, from: ReadRequest["from"]): number => {
  if (from === "earliest") return log.start
  return "time" in from ? firstSince(log, from.time) : from.offsets[partition] ?? log.start
}

const toOf = (log: MemoryPartition, partition: number, to: ReadRequest["to"]): number => {
  if (to === "now") return log.end
  return "time" in to ? firstSince(log, to.time) : to.offsets[partition] ?? log.end
}

/** The first message that is not older. Publishers give the timestamps, so these are in no order. */
const firstSince = (log: MemoryPartition, time: Date): number =>
  log.read(log.start, log.size).find(({ timestamp }) => timestamp >= time.getTime())?.offset ?? log.end

const messages = (
  topic: string,
  log: MemoryPartition,
  partition: number,
  from: number,
  to: number
): Stream.Stream<IncomingMessage> =>
  Stream.paginateChunkEffect(from, (offset) =>
    Effect.sync(() => {
      // Messages that retention has deleted meanwhile are passed over, so the read can begin later than asked for.
      const stored = log.read(offset, batchSize).filter((message) => message.offset < to)
      const next = stored.length === 0 ? to : stored[stored.length - 1]!.offset + 1
      return [
        Chunk.unsafeFromArray(stored.map((message) => message.incoming(topic, partition, true))),
        next < to ? Option.some(next) : Option.none()
      ]
    }))
