/**
 * The requests of one group, as its members make them. Heartbeats have links of
 * their own, which all groups of a client share: a join waits for all members, and a
 * commit for replicas, and neither must hold up a heartbeat.
 */
import * as Effect from "effect/Effect"
import type { Answer } from "./Api.js"
import type { Client } from "./Client.js"
import { failure, KafkaFailure } from "./Failure.js"

/** The name of one of the requests of a group, as it stands in messages. */
export type GroupRequest =
  | "FindCoordinator"
  | "JoinGroup"
  | "SyncGroup"
  | "Heartbeat"
  | "LeaveGroup"
  | "OffsetCommit"
  | "OffsetFetch"
  | "DescribeGroups"

export interface Join {
  /** Empty where the group has not given one yet. */
  readonly memberId: string
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly protocol: string
  readonly metadata: Buffer
}

/** The group has given an id to join with; or it is complete, and its leader gets to know all members. */
export type Joined =
  | { readonly _tag: "Named"; readonly memberId: string }
  | {
    readonly _tag: "Joined"
    readonly memberId: string
    readonly generation: number
    readonly leaderId: string
    readonly members: ReadonlyArray<{ readonly memberId: string; readonly metadata: Buffer }>
  }

export interface Identity {
  readonly memberId: string
  readonly generation: number
}

export interface Sync extends Identity {
  readonly assignments: ReadonlyArray<{ readonly memberId: string; readonly assignment: Buffer }>
}

export interface CommitRequest {
  readonly partition: number
  readonly offset: number
  readonly metadata: string
}

export interface CommittedOffset {
  readonly partition: number
  /** Negative where nothing is committed. */
  readonly offset: number
  readonly metadata: string | null
}

export interface Description {
  /** `PreparingRebalance` while members are waited for, `CompletingRebalance` while the leader shares out. */
  readonly state: string
  readonly members: ReadonlyArray<
    { readonly memberId: string; readonly clientId: string; readonly clientHost: string }
  >
}

/**
 * The requests of one group, to the broker that coordinates it. An error code in an answer is a failure of that type; only the
 * answers to commits have one code for each partition. A request that has no answer by its deadline ends its link.
 */
export interface GroupDriver {
  readonly findCoordinator: (timeoutMs: number) => Effect.Effect<number, KafkaFailure>
  readonly join: (node: number, join: Join, timeoutMs: number) => Effect.Effect<Joined, KafkaFailure>
  readonly sync: (node: number, sync: Sync, timeoutMs: number) => Effect.Effect<Buffer | null, KafkaFailure>
  readonly heartbeat: (node: number, member: Identity, timeoutMs: number) => Effect.Effect<void, KafkaFailure>
  readonly leave: (node: number, memberId: string) => Effect.Effect<void, KafkaFailure>
  /** By partition the code of the answer; 0 is good. */
  readonly commit: (
    node: number,
    member: Identity,
    topic: string,
    commits: ReadonlyArray<CommitRequest>
  ) => Effect.Effect<ReadonlyMap<number, number>, KafkaFailure>
  readonly committed: (
    node: number,
    topic: string,
    partitions: ReadonlyArray<number>
  ) => Effect.Effect<ReadonlyArray<CommittedOffset>, KafkaFailure>
  /** What the coordinator says of the group. */
  readonly describe: (node: number, timeoutMs: number) => Effect.Effect<Description, KafkaFailure>
  /** Ends the link on which joins and syncs wait for their answers: they fail at once. */
  readonly abandonJoin: Effect.Effect<void>
}

const HEARTBEATS = "heartbeat"
const GROUPS = "group"

export interface GroupDriverOptions {
  readonly client: Client
  readonly group: string
  /** Stays the same over restarts, so that the group takes a restarted member for the one before. */
  readonly instanceId: string | undefined
  /** Of the links on which this member joins. */
  readonly joinRole: string
}

const accepted = (request: GroupRequest) => <A extends Coded>(answer: A) =>
  answer.errorCode === 0 ? Effect.succeed(answer) : Effect.fail(failure(request, answer.errorCode))

interface Coded extends Answer {
  readonly errorCode: number
}

/** Connecting included. */
const within =
  (request: GroupRequest, millis: number) =>
  <A>(asked: Effect.Effect<A, KafkaFailure>): Effect.Effect<A, KafkaFailure> =>
    Effect.timeoutFail(asked, {
      duration: millis,
      onTimeout: () =>
        new KafkaFailure({ type: "Timeout", sent: true, cause: `${request} was not answered in ${millis} ms` })
    })

export const make = ({ client, group, instanceId, joinRole }: GroupDriverOptions): GroupDriver => ({
  findCoordinator: (timeoutMs) =>
    within("FindCoordinator", timeoutMs * 2)(client.coordinator(group, { role: HEARTBEATS, timeoutMs })),
  join: (node, join, timeoutMs) =>
    client.call(node, joinRole, "JoinGroup", { ...join, group, instanceId }, timeoutMs).pipe(
      Effect.flatMap((answer): Effect.Effect<Joined, KafkaFailure> => {
        const { generation, leaderId, memberId, members } = answer
        const error = answer.errorCode === 0 ? undefined : failure("JoinGroup", answer.errorCode)
        // It comes again at once with what it is called, which is to be news: otherwise it would come again for ever.
        const isNews = join.memberId === "" && memberId !== ""
        if (error?.type === "MEMBER_ID_REQUIRED" && isNews) return Effect.succeed({ _tag: "Named", memberId })
        return error === undefined
          ? Effect.succeed({ _tag: "Joined", memberId, generation, leaderId, members })
          : Effect.fail(error)
      })
    ),
  sync: (node, sync, timeoutMs) =>
    client.call(node, joinRole, "SyncGroup", { ...sync, group, instanceId }, timeoutMs).pipe(
      Effect.flatMap(accepted("SyncGroup")),
      Effect.map(({ assignment }) => assignment)
    ),
  heartbeat: (node, member, timeoutMs) =>
    Effect.suspend(() => {
      const asked = client.call(node, HEARTBEATS, "Heartbeat", { ...member, group, instanceId }, timeoutMs)
      // Sending has its own deadline, and hundreds of subscriptions send one every other second.
      return client.isOpen(node, HEARTBEATS) ? asked : within("Heartbeat", timeoutMs * 2)(asked)
    }).pipe(
      Effect.flatMap(accepted("Heartbeat")),
      Effect.asVoid
    ),
  leave: (node, memberId) =>
    client.call(node, GROUPS, "LeaveGroup", { group, memberId }).pipe(
      Effect.flatMap(accepted("LeaveGroup")),
      Effect.asVoid
    ),
  commit: (node, member, topic, commits) =>
    client.call(node, GROUPS, "OffsetCommit", { ...member, group, instanceId, topic, partitions: commits }).pipe(
      Effect.map(({ partitions }) => new Map(partitions.map(({ errorCode, partition }) => [partition, errorCode])))
    ),
  committed: (node, topic, partitions) =>
    client.call(node, GROUPS, "OffsetFetch", { group, topic, partitions }).pipe(
      Effect.flatMap(accepted("OffsetFetch")),
      Effect.flatMap((answer) => {
        const answered = new Map(answer.partitions.map((one) => [one.partition, one]))
        return Effect.forEach(partitions, (partition) => {
          // What is left out is no partition without a position.
          const { errorCode = -1, metadata = null, offset = -1 } = answered.get(partition) ?? {}
          return errorCode !== 0
            ? Effect.fail(failure("OffsetFetch", errorCode))
            : Effect.succeed({ partition, offset, metadata })
        })
      })
    ),
  describe: (node, timeoutMs) =>
    client.call(node, GROUPS, "DescribeGroups", { groups: [group] }, timeoutMs).pipe(
      within("DescribeGroups", timeoutMs * 2),
      Effect.flatMap(({ groups: [found] }) =>
        found === undefined ? Effect.fail(failure("DescribeGroups", -1)) : accepted("DescribeGroups")(found)
      )
    ),
  abandonJoin: client.release(joinRole)
})
