/**
 * What the members of a group tell its leader, and the leader them, as bytes.
 * What a member owns goes along, so that the leader leaves it there.
 */
import { writerFor } from "./Api.js"
import type { Assignments, Member } from "./Assignor.js"
import { Reader } from "./Reader.js"

/** The name under which Kafka finds out that all members of a group understand each other. */
export const PROTOCOL = "effect-eventbus-cooperative-1"

/** Later versions have more fields, of which nothing here is of use. */
const VERSION = 0

const NEW = "new"

export const encodeMember = (member: Omit<Member, "memberId">, nonce: number): Buffer => {
  const userData = Buffer.from(
    JSON.stringify({
      generation: member.generation,
      owned: Object.fromEntries(member.owned),
      isNew: member.isNew,
      nonce
    })
  )
  const writer = writerFor(16 + userData.length, member.topics)
  writer.int16(VERSION)
  writer.array(member.topics, (topic) => writer.string(topic))
  writer.block(userData)
  return writer.written
}

export const decodeMember = (memberId: string, metadata: Buffer): Member => {
  const reader = new Reader(metadata)
  reader.int16() // version
  const topics = reader.array(() => reader.string())
  return { memberId, topics, ...ownedOf(reader.block()) }
}

/** A member that says nothing readable owns nothing. */
const ownedOf = (userData: Buffer): Pick<Member, "generation" | "owned" | "isNew"> => {
  const nothing = { generation: -1, owned: new Map<string, ReadonlyArray<number>>(), isNew: false }
  if (userData.length === 0) return nothing
  let parsed: unknown
  try {
    parsed = JSON.parse(userData.toString("utf8"))
  } catch {
    return nothing
  }
  if (typeof parsed !== "object" || parsed === null || !("generation" in parsed) || !("owned" in parsed)) return nothing
  const { generation, owned } = parsed
  if (typeof generation !== "number" || typeof owned !== "object" || owned === null) return nothing
  const found = new Map<string, ReadonlyArray<number>>()
  for (const [topic, partitions] of Object.entries(owned)) {
    if (Array.isArray(partitions)) found.set(topic, partitions.filter((p): p is number => Number.isInteger(p)))
  }
  return { generation, owned: found, isNew: "isNew" in parsed && parsed.isNew === true }
}

/** `isNew`: the group is new to its members. */
export const encodeAssignments = (
  assignments: Assignments,
  isNew: boolean
): ReadonlyArray<{ readonly memberId: string; readonly assignment: Buffer }> =>
  Array.from(assignments, ([memberId, topics]) => ({
    memberId,
    assignment: assignmentOf([...topics], Buffer.from(isNew ? NEW : ""))
  }))

const assignmentOf = (
  topics: ReadonlyArray<readonly [topic: string, partitions: ReadonlyArray<number>]>,
  userData: Buffer
): Buffer => {
  const count = topics.reduce((sum, [, partitions]) => sum + partitions.length + 1, 0)
  const writer = writerFor(16 + userData.length, topics.map(([topic]) => topic), 4, count)
  writer.int16(VERSION)
  writer.array(topics, ([topic, partitions]) => {
    writer.string(topic)
    writer.array(partitions, (partition) => writer.int32(partition))
  })
  writer.block(userData)
  return writer.written
}

/** The partitions of a topic that this member was given, and whether the group is new to all members. */
export const decodeAssignment = (
  bytes: Buffer | null,
  topic: string
): { readonly partitions: ReadonlyArray<number>; readonly isNew: boolean } => {
  if (bytes === null || bytes.length === 0) return { partitions: [], isNew: false }
  const reader = new Reader(bytes)
  reader.int16() // version
  const topics = new Map(reader.array(() => [reader.string(), reader.array(() => reader.int32())]))
  return { partitions: topics.get(topic) ?? [], isNew: reader.block().toString("utf8") === NEW }
}
