/**
 * The border below which a client of Kafka's protocol may be exchanged: what this
 * package asks brokers for, with types of its own. A driver knows addresses, links,
 * versions and bytes; what is above it knows neither the client nor its errors.
 *
 * So far it has the requests of a group; the others go by `Client.call` still.
 */
import type * as Effect from "effect/Effect"
import type { KafkaFailure } from "./Client.js"

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
