/**
 * Finds out whether the log of a partition is still the one that was read, and
 * where it begins to be another: it was cut at its end, by a leader that had less
 * of it (unclean election) or by a broker that lost what it had not written to its disk.
 * The leader is asked where the messages of an epoch end (KIP-320).
 */
import * as Effect from "effect/Effect"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { Lineage } from "./Lineage.js"
import * as Offsets from "./Offsets.js"

/** What is asked about a partition: whether all that was read below a position is still there. */
export interface Question {
  readonly partition: number
  readonly position: number
  readonly lineage: Lineage
}

/** The answer of the leader that has this epoch. */
export interface Answer {
  readonly leaderEpoch: number
  /** From here on there are other messages than those that were read; `undefined` where all that was read is there. */
  readonly cutAt: number | undefined
}

/** It is not known whether anything was cut: the leader, or the client that wrote the position, does not know of epochs. */
export const unknown = "unknown"

/** One request, save where leaders changed often. It fails when the leader is another one than is known. */
export const find = (
  client: Client,
  topics: KafkaTopics,
  role: string,
  topic: string,
  { lineage, partition, position }: Question
): Effect.Effect<Answer | typeof unknown, KafkaFailure> =>
  Effect.gen(function*() {
    const known = topics.known(topic)
    const leader = known?.leaders[partition] ?? -1
    const leaderEpoch = known?.epochs[partition] ?? -1
    if (leader < 0) return yield* Offsets.noLeader
    let epoch = lineage.before(position)
    let end = position
    while (epoch >= 0 && leaderEpoch >= 0) {
      const { endOffset, leaderEpoch: theirs } = yield* ask(client, leader, role, {
        topic,
        partition,
        currentLeaderEpoch: leaderEpoch,
        leaderEpoch: epoch
      })
      if (theirs < 0 || endOffset < 0) return unknown
      // Otherwise the same would be asked again.
      if (theirs > epoch) return yield* nonsense
      end = Math.min(end, lineage.endOf(theirs), endOffset)
      const isShared = theirs === epoch || lineage.has(theirs)
      epoch = isShared ? -1 : lineage.below(theirs)
      if (epoch < 0) return { leaderEpoch, cutAt: end < position ? end : undefined }
    }
    return unknown
  })

const nonsense = new KafkaFailure({
  type: "Client",
  sent: true,
  cause: "OffsetForLeaderEpoch was answered with a later epoch than was asked for"
})

const ask = (
  client: Client,
  leader: number,
  role: string,
  { topic, ...question }: {
    readonly topic: string
    readonly partition: number
    readonly currentLeaderEpoch: number
    readonly leaderEpoch: number
  }
) =>
  client.call(leader, role, "OffsetForLeaderEpoch", { topic, partitions: [question] }).pipe(
    Effect.flatMap(({ partitions: [answer] }) =>
      answer === undefined
        ? new KafkaFailure({ type: "Client", sent: true, cause: "no answer for a partition" })
        : answer.errorCode !== 0
        ? failure("OffsetForLeaderEpoch", answer.errorCode)
        : Effect.succeed(answer)
    ),
    Effect.catchIf(
      ({ type }) => type === "UNSUPPORTED_VERSION",
      () => Effect.succeed({ leaderEpoch: -1, endOffset: -1 })
    )
  )
