/**
 * What becomes of a partition whose log is not what it was: deleted and made
 * again, cut at its beginning by retention, or cut at its end by a leader that had less of it.
 */
import * as Effect from "effect/Effect"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { KafkaFailure } from "./Failure.js"
import { Lineage } from "./Lineage.js"
import * as Offsets from "./Offsets.js"
import type { Partition } from "./Partition.js"
import type { Start } from "./Starts.js"
import * as Truncation from "./Truncation.js"

export interface LogResetsOptions {
  readonly client: Client
  readonly topics: KafkaTopics
  readonly topic: string
  readonly role: string
  /**
   * Ends it here and begins it again, where it can't now, later. A start that depends on what was finished is made again once
   * nothing of it runs any more.
   */
  readonly beginAgain: (partition: Partition, start: Start | (() => Start)) => Effect.Effect<void, KafkaFailure>
}

export interface LogResets {
  /** The log does not have the offset that was asked for. */
  readonly onOutOfRange: (partition: Partition) => Effect.Effect<void, KafkaFailure>
  /** The topic has another id than before. */
  readonly onRemade: (partition: Partition) => Effect.Effect<void, KafkaFailure>
  /** Another leader leads the partition, or the same one anew. */
  readonly onNewLeader: (partition: Partition) => Effect.Effect<void, KafkaFailure>
}

export const make = (options: LogResetsOptions): LogResets => {
  const { client, role, topic, topics } = options
  const firstOf = (partition: Partition) => Offsets.first(client, topics, role, topic, partition.id)
  const find = (partition: Partition) =>
    Truncation.find(client, topics, role, topic, {
      partition: partition.id,
      position: partition.fetchOffset,
      lineage: partition.options.lineage
    })
  const warn = (message: string, partition: Partition, to: number) =>
    Effect.annotateLogs(Effect.logWarning(message), { topic, partition: partition.id, from: partition.fetchOffset, to })

  const onOutOfRange = Effect.fnUntraced(function*(partition: Partition) {
    // It may be another topic of that name: what begins anew has its id, or would begin anew once more.
    const { id } = yield* topics.refresh(topic)
    const { topicId } = partition.options
    if (id !== undefined && topicId !== undefined && id !== topicId) return yield* onRemade(partition)
    const first = yield* firstOf(partition)
    if (first > partition.fetchOffset) {
      yield* warn("Messages were deleted from the topic before they were read", partition, first)
      partition.skipTo(first)
      return
    }
    const answer = yield* find(partition)
    if (answer !== Truncation.unknown && answer.cutAt !== undefined) return yield* cut(partition, answer, first)
    // A leader that has everything has it in a moment, when it knows how far its log is confirmed.
    if (answer !== Truncation.unknown) return yield* notThereYet
    const position = positionOf(partition)
    yield* warn(
      "The topic is shorter than what was read of it, and where it was cut is not known; reading begins anew, " +
        "and what may be known is marked",
      partition,
      first
    )
    partition.beginAnewAt(first)
    yield* options.beginAgain(partition, startOf(partition, first, position))
  })

  const onRemade = Effect.fnUntraced(function*(partition: Partition) {
    const first = yield* firstOf(partition)
    yield* warn("The topic was deleted and made again; reading begins anew", partition, first)
    partition.beginAnewAt(first)
    yield* options.beginAgain(partition, startOf(partition, first, 0))
  })

  /** Of another log, or of one of which nothing is known any more. */
  const startOf = ({ id }: Partition, offset: number, duplicatesBelow: number): Start => {
    const leaderEpoch = topics.known(topic)?.epochs[id] ?? -1
    return { id, offset, finished: [], duplicatesBelow, leaderEpoch, lineage: new Lineage(leaderEpoch) }
  }

  const onNewLeader = Effect.fnUntraced(function*(partition: Partition) {
    const answer = yield* find(partition)
    if (answer === Truncation.unknown) {
      partition.leaderEpoch = topics.known(topic)?.epochs[partition.id] ?? -1
      return
    }
    if (answer.cutAt !== undefined) return yield* cut(partition, answer, yield* firstOf(partition))
    partition.leaderEpoch = answer.leaderEpoch
  })

  /** What is finished below it stays so; whatever comes at a position that was handed over before is marked. */
  const cut = Effect.fnUntraced(function*(partition: Partition, answer: Truncation.Answer, first: number) {
    const at = Math.max(first, answer.cutAt ?? 0)
    const position = positionOf(partition)
    yield* warn(
      "The log was cut off at its end: messages that were read are gone, and others take their offsets; " +
        "reading goes on where it was cut, and these are marked as possible duplicates",
      partition,
      at
    )
    partition.cutAt(at)
    yield* options.beginAgain(partition, () => {
      const { finished, offset } = partition.left
      return {
        id: partition.id,
        offset,
        finished,
        duplicatesBelow: position,
        leaderEpoch: answer.leaderEpoch,
        lineage: partition.options.lineage.upTo(at)
      }
    })
  })

  return { onOutOfRange, onRemade, onNewLeader }
}

/** Everything below may have been handed over. */
const positionOf = ({ fetchOffset, options: { duplicatesBelow } }: Partition): number =>
  Math.max(fetchOffset, duplicatesBelow)

const notThereYet = new KafkaFailure({
  type: "OFFSET_NOT_AVAILABLE",
  sent: true,
  cause: "The leader does not know yet how far its log is confirmed"
})
