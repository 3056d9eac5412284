/**
 * The requests of a group over kafkajs's connections. Heartbeats have links of their
 * own, which all groups of a client share: a join waits for all members, and a commit
 * for replicas, and neither must hold up a heartbeat.
 */
import * as Effect from "effect/Effect"
import type { Client } from "./Client.js"
import { failure, KafkaFailure } from "./Client.js"
import type { CommittedOffset, Description, GroupDriver, Joined } from "./Driver.js"
import type { Api } from "./Wire.js"
import { errorType } from "./Wire.js"

const HEARTBEATS = "heartbeat"
const GROUPS = "group"

export interface KafkajsGroupOptions {
  readonly client: Client
  readonly group: string
  /** Stays the same over restarts, so that the group takes a restarted member for the one before. */
  readonly instanceId: string | undefined
  /** Of the links on which this member joins. */
  readonly joinRole: string
}

interface Answer {
  readonly errorCode: number
}

const accepted = <A extends Answer>(api: Api) => (answer: A) =>
  answer.errorCode === 0 ? Effect.succeed(answer) : Effect.fail(failure(api, answer.errorCode))

/** Connecting included. */
const within =
  (api: Api, millis: number) => <A>(request: Effect.Effect<A, KafkaFailure>): Effect.Effect<A, KafkaFailure> =>
    Effect.timeoutFail(request, {
      duration: millis,
      onTimeout: () =>
        new KafkaFailure({ type: "Timeout", sent: true, cause: `${api} was not answered in ${millis} ms` })
    })

export const make = ({ client, group, instanceId, joinRole }: KafkajsGroupOptions): GroupDriver => ({
  findCoordinator: (timeoutMs) =>
    within("GroupCoordinator", timeoutMs * 2)(client.coordinator(group, { role: HEARTBEATS, timeoutMs })),
  join: (node, join, timeoutMs) =>
    client.call<
      Answer & {
        readonly generationId: number
        readonly leaderId: string
        readonly memberId: string
        readonly members: ReadonlyArray<{ readonly memberId: string; readonly memberMetadata: Buffer }>
      }
    >(node, joinRole, "JoinGroup", {
      groupId: group,
      sessionTimeout: join.sessionTimeoutMs,
      rebalanceTimeout: join.rebalanceTimeoutMs,
      memberId: join.memberId,
      groupInstanceId: instanceId,
      protocolType: "consumer",
      groupProtocols: [{ name: join.protocol, metadata: join.metadata }]
    }, timeoutMs).pipe(
      Effect.flatMap((answer): Effect.Effect<Joined, KafkaFailure> => {
        const { memberId } = answer
        if (errorType(answer.errorCode) === "MEMBER_ID_REQUIRED") return Effect.succeed({ _tag: "Named", memberId })
        return Effect.map(accepted("JoinGroup")(answer), () => ({
          _tag: "Joined",
          memberId,
          generation: answer.generationId,
          leaderId: answer.leaderId,
          members: answer.members.map(({ memberId, memberMetadata }) => ({ memberId, metadata: memberMetadata }))
        }))
      })
    ),
  sync: (node, { assignments, generation, memberId }, timeoutMs) =>
    client.call<Answer & { readonly memberAssignment: Buffer | null }>(node, joinRole, "SyncGroup", {
      groupId: group,
      generationId: generation,
      memberId,
      groupInstanceId: instanceId,
      groupAssignment: assignments.map(({ assignment, memberId }) => ({ memberId, memberAssignment: assignment }))
    }, timeoutMs).pipe(
      Effect.flatMap(accepted("SyncGroup")),
      Effect.map(({ memberAssignment }) => memberAssignment)
    ),
  heartbeat: (node, { generation, memberId }, timeoutMs) =>
    client.call<Answer>(node, HEARTBEATS, "Heartbeat", {
      groupId: group,
      groupGenerationId: generation,
      memberId,
      groupInstanceId: instanceId
    }, timeoutMs).pipe(within("Heartbeat", timeoutMs * 2), Effect.flatMap(accepted("Heartbeat")), Effect.asVoid),
  leave: (node, memberId) =>
    client.call<Answer>(node, GROUPS, "LeaveGroup", { groupId: group, memberId }).pipe(
      Effect.flatMap(accepted("LeaveGroup")),
      Effect.asVoid
    ),
  commit: (node, { generation, memberId }, topic, commits) =>
    client.call<{ readonly responses: ReadonlyArray<{ readonly partitions: ReadonlyArray<PartitionCode> }> }>(
      node,
      GROUPS,
      "OffsetCommit",
      { groupId: group, groupGenerationId: generation, memberId, topics: [{ topic, partitions: commits }] }
    ).pipe(
      Effect.map(({ responses }) =>
        new Map(
          responses.flatMap(({ partitions }) =>
            partitions.map(({ errorCode, partition }) => [partition, errorCode] as const)
          )
        )
      )
    ),
  committed: (node, topic, partitions) =>
    client.call<OffsetFetchAnswer>(node, GROUPS, "OffsetFetch", {
      groupId: group,
      topics: [{ topic, partitions: partitions.map((partition) => ({ partition })) }]
    }).pipe(
      Effect.flatMap(({ errorCode = 0, responses }) =>
        errorCode !== 0 ? Effect.fail(failure("OffsetFetch", errorCode)) : Effect.forEach(
          responses.flatMap(({ partitions }) => partitions),
          ({ errorCode, metadata, offset, partition }): Effect.Effect<CommittedOffset, KafkaFailure> =>
            errorCode !== 0
              ? Effect.fail(failure("OffsetFetch", errorCode))
              : Effect.succeed({ partition, offset: Number(offset), metadata })
        )
      )
    ),
  describe: (node, timeoutMs) =>
    client.call<{ readonly groups: ReadonlyArray<Answer & Description> }>(node, GROUPS, "DescribeGroups", {
      groupIds: [group]
    }, timeoutMs).pipe(
      within("DescribeGroups", timeoutMs * 2),
      Effect.flatMap(({ groups: [found] }) =>
        found === undefined
          ? Effect.fail(failure("DescribeGroups", -1))
          : accepted<Answer & Description>("DescribeGroups")(found)
      )
    ),
  abandonJoin: client.release(joinRole)
})

interface PartitionCode {
  readonly partition: number
  readonly errorCode: number
}

interface OffsetFetchAnswer {
  readonly errorCode?: number
  readonly responses: ReadonlyArray<{
    readonly partitions: ReadonlyArray<
      {
        readonly partition: number
        readonly offset: string
        readonly metadata: string | null
        readonly errorCode: number
      }
    >
  }>
}
