/**
 * What the members of a group tell its leader, and the leader them, as bytes.
 * What a member owns goes along, so that the leader leaves it there.
 */
import "./commonJs.js"

import assignerProtocol from "kafkajs/src/consumer/assignerProtocol.js"
import type { Assignments, Member } from "./Assignor.js"

/** The name under which Kafka finds out that all members of a group understand each other. */
export const PROTOCOL = "effect-eventbus-cooperative-1"

/** Later versions have fields that kafkajs does not write: brokers that look into it would find it damaged. */
const VERSION = 0

const NEW = "new"

export const encodeMember = (member: Omit<Member, "memberId">, nonce: number): Buffer =>
  assignerProtocol.MemberMetadata.encode({
    version: VERSION,
    topics: [...member.topics],
    userData: Buffer.from(
      JSON.stringify({
        generation: member.generation,
        owned: Object.fromEntries(member.owned),
        isNew: member.isNew,
        nonce
      })
    )
  })

export const decodeMember = (memberId: string, metadata: Buffer): Member => {
  const { topics, userData } = assignerProtocol.MemberMetadata.decode(metadata)
  return { memberId, topics, ...ownedOf(userData) }
}

/** A member that says nothing readable owns nothing. */
const ownedOf = (userData: Buffer | null): Pick<Member, "generation" | "owned" | "isNew"> => {
  const nothing = { generation: -1, owned: new Map<string, ReadonlyArray<number>>(), isNew: false }
  if (userData === null || userData.length === 0) return nothing
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
    assignment: assignerProtocol.MemberAssignment.encode({
      version: VERSION,
      assignment: Object.fromEntries(Array.from(topics, ([topic, partitions]) => [topic, [...partitions]])),
      userData: Buffer.from(isNew ? NEW : "")
    })
  }))

/** The partitions of a topic that this member was given, and whether the group is new to all members. */
export const decodeAssignment = (
  bytes: Buffer | null,
  topic: string
): { readonly partitions: ReadonlyArray<number>; readonly isNew: boolean } => {
  const decoded = bytes === null || bytes.length === 0 ? null : assignerProtocol.MemberAssignment.decode(bytes)
  return { partitions: decoded?.assignment[topic] ?? [], isNew: decoded?.userData?.toString("utf8") === NEW }
}
