/** The requests of consumer groups. */
import type { Answer, Api } from "./Api.js"
import { versions, writerFor } from "./Api.js"
import { Reader } from "./Reader.js"

export interface Coded extends Answer {
  readonly errorCode: number
}

export interface FindCoordinatorResponse extends Coded {
  readonly node: number
  readonly host: string
  readonly port: number
}

export const findCoordinator: Api<{ readonly group: string }, FindCoordinatorResponse> = {
  key: 10,
  versions: versions(0, 2),
  encode: ({ group }, version) => {
    const writer = writerFor(8, [group])
    writer.string(group)
    if (version >= 1) writer.int8(0) // of a group, not of a transaction
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 1 ? reader.int32() : 0
    const errorCode = reader.int16()
    if (version >= 1) reader.nullableString() // in words
    return { throttleMs, errorCode, node: reader.int32(), host: reader.string(), port: reader.int32() }
  }
}

/** A member, or who it was before it was started again (`instanceId`). */
export interface Who {
  readonly group: string
  readonly memberId: string
  readonly instanceId?: string | undefined
}

export interface JoinGroupRequest extends Who {
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly protocol: string
  readonly metadata: Buffer
}

export interface JoinGroupResponse extends Coded {
  readonly generation: number
  readonly leaderId: string
  readonly memberId: string
  /** Of all members, for the leader only. */
  readonly members: ReadonlyArray<{ readonly memberId: string; readonly metadata: Buffer }>
}

/** From version 4 on a member is given an id first, and from 5 on it may be static. */
export const joinGroup: Api<JoinGroupRequest, JoinGroupResponse> = {
  key: 11,
  versions: versions(1, 5),
  encode: ({ group, instanceId, memberId, metadata, protocol, rebalanceTimeoutMs, sessionTimeoutMs }, version) => {
    const type = "consumer"
    const writer = writerFor(32 + metadata.length, [group, memberId, instanceId, type, protocol])
    writer.string(group)
    writer.int32(sessionTimeoutMs)
    writer.int32(rebalanceTimeoutMs)
    writer.string(memberId)
    if (version >= 5) writer.string(instanceId ?? null)
    writer.string(type)
    writer.int32(1)
    writer.string(protocol)
    writer.block(metadata)
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 2 ? reader.int32() : 0
    const errorCode = reader.int16()
    const generation = reader.int32()
    reader.nullableString() // the protocol
    const leaderId = reader.string()
    const memberId = reader.string()
    const members = reader.array(() => {
      const memberId = reader.string()
      if (version >= 5) reader.nullableString()
      return { memberId, metadata: reader.block() }
    })
    return { throttleMs, errorCode, generation, leaderId, memberId, members }
  }
}

export interface SyncGroupRequest extends Who {
  readonly generation: number
  readonly assignments: ReadonlyArray<{ readonly memberId: string; readonly assignment: Buffer }>
}

export interface SyncGroupResponse extends Coded {
  readonly assignment: Buffer
}

export const syncGroup: Api<SyncGroupRequest, SyncGroupResponse> = {
  key: 14,
  versions: versions(0, 3),
  encode: ({ assignments, generation, group, instanceId, memberId }, version) => {
    const bytes = assignments.reduce((sum, { assignment }) => sum + assignment.length + 4, 0)
    const writer = writerFor(16 + bytes, [group, memberId, instanceId, ...assignments.map(({ memberId }) => memberId)])
    writer.string(group)
    writer.int32(generation)
    writer.string(memberId)
    if (version >= 3) writer.string(instanceId ?? null)
    writer.array(assignments, ({ assignment, memberId }) => {
      writer.string(memberId)
      writer.block(assignment)
    })
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 1 ? reader.int32() : 0
    return { throttleMs, errorCode: reader.int16(), assignment: reader.block() }
  }
}

const coded = (body: Buffer, version: number): Coded => {
  const reader = new Reader(body)
  const throttleMs = version >= 1 ? reader.int32() : 0
  return { throttleMs, errorCode: reader.int16() }
}

export const heartbeat: Api<Who & { readonly generation: number }, Coded> = {
  key: 12,
  versions: versions(0, 3),
  encode: ({ generation, group, instanceId, memberId }, version) => {
    const writer = writerFor(8, [group, memberId, instanceId])
    writer.string(group)
    writer.int32(generation)
    writer.string(memberId)
    if (version >= 3) writer.string(instanceId ?? null)
    return writer.written
  },
  decode: coded
}

export const leaveGroup: Api<Omit<Who, "instanceId">, Coded> = {
  key: 13,
  versions: versions(0, 2),
  encode: ({ group, memberId }) => {
    const writer = writerFor(0, [group, memberId])
    writer.string(group)
    writer.string(memberId)
    return writer.written
  },
  decode: coded
}

export interface OffsetCommitRequest extends Who {
  readonly generation: number
  readonly topic: string
  readonly partitions: ReadonlyArray<
    { readonly partition: number; readonly offset: number; readonly metadata: string }
  >
}

export interface OffsetCommitResponse extends Answer {
  readonly partitions: ReadonlyArray<{ readonly partition: number; readonly errorCode: number }>
}

const DEFAULT_RETENTION = -1

export const offsetCommit: Api<OffsetCommitRequest, OffsetCommitResponse> = {
  key: 8,
  versions: versions(2, 7),
  encode: ({ generation, group, instanceId, memberId, partitions, topic }, version) => {
    const texts = [group, memberId, instanceId, topic, ...partitions.map(({ metadata }) => metadata)]
    const writer = writerFor(32, texts, 16, partitions.length)
    writer.string(group)
    writer.int32(generation)
    writer.string(memberId)
    if (version >= 7) writer.string(instanceId ?? null)
    if (version <= 4) writer.int64(DEFAULT_RETENTION)
    writer.int32(1)
    writer.string(topic)
    writer.array(partitions, ({ metadata, offset, partition }) => {
      writer.int32(partition)
      writer.int64(offset)
      if (version >= 6) writer.int32(-1) // the leader's epoch: it is in the metadata
      writer.string(metadata)
    })
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 3 ? reader.int32() : 0
    const topics = reader.array(() => {
      reader.string()
      return reader.array(() => ({ partition: reader.int32(), errorCode: reader.int16() }))
    })
    return { throttleMs, partitions: topics.flat() }
  }
}

export interface OffsetFetchRequest {
  readonly group: string
  readonly topic: string
  readonly partitions: ReadonlyArray<number>
}

export interface OffsetFetchResponse extends Coded {
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly errorCode: number
    /** Negative where nothing is committed. */
    readonly offset: number
    readonly metadata: string | null
  }>
}

export const offsetFetch: Api<OffsetFetchRequest, OffsetFetchResponse> = {
  key: 9,
  versions: versions(1, 5),
  encode: ({ group, partitions, topic }) => {
    const writer = writerFor(8, [group, topic], 4, partitions.length)
    writer.string(group)
    writer.int32(1)
    writer.string(topic)
    writer.array(partitions, (partition) => writer.int32(partition))
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 3 ? reader.int32() : 0
    const topics = reader.array(() => {
      reader.string()
      return reader.array(() => {
        const partition = reader.int32()
        const offset = reader.int64()
        if (version >= 5) reader.int32() // the leader's epoch
        return { partition, offset, metadata: reader.nullableString(), errorCode: reader.int16() }
      })
    })
    return { throttleMs, partitions: topics.flat(), errorCode: version >= 2 ? reader.int16() : 0 }
  }
}

export interface DescribeGroupsResponse extends Answer {
  readonly groups: ReadonlyArray<{
    readonly errorCode: number
    /** `PreparingRebalance` while members are waited for, `CompletingRebalance` while the leader shares out. */
    readonly state: string
    readonly members: ReadonlyArray<
      { readonly memberId: string; readonly clientId: string; readonly clientHost: string }
    >
  }>
}

export const describeGroups: Api<{ readonly groups: ReadonlyArray<string> }, DescribeGroupsResponse> = {
  key: 15,
  versions: versions(0, 4),
  encode: ({ groups }, version) => {
    const writer = writerFor(8, groups)
    writer.array(groups, (group) => writer.string(group))
    if (version >= 3) writer.int8(0) // no authorizations
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 1 ? reader.int32() : 0
    const groups = reader.array(() => {
      const errorCode = reader.int16()
      reader.string() // the group
      const state = reader.string()
      for (let i = 0; i < 2; i++) reader.string() // type and name of the protocol
      const members = reader.array(() => {
        const memberId = reader.string()
        if (version >= 4) reader.nullableString()
        const member = { memberId, clientId: reader.string(), clientHost: reader.string() }
        for (let i = 0; i < 2; i++) reader.block() // metadata and assignment
        return member
      })
      if (version >= 3) reader.int32() // authorizations
      return { errorCode, state, members }
    })
    return { throttleMs, groups }
  }
}
