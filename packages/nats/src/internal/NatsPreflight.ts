/**
 * What a stream's and a consumer's settings on the server mean for the promises of the bus.
 */
import type { SubscribeRequest, TopicSpec } from "@effect-eventbus/core/Transport"
import type { Settings } from "../NatsConfig.js"
import type { AccountInfo, ConsumerConfig, StreamConfig } from "./Api.js"

/** An attempt to publish may be repeated for so long by default. */
const publishTimeout = 10_000

/** Shorter pauses of a whole process are not rare. */
const shortestAckWait = 5_000

/** What a key of the leases' bucket needs at most, in bytes, its headers included; and the record of what is settled, of a thousand ranges. */
const largestKey = 4_096
const largestRecord = 65_536

/** A limit of the account is mentioned when so much of it is used. */
const mostlyFull = 0.8

const seconds = (nanos: number): string => `${nanos / 1e9} s`

/**
 * Why envelopes are less safe in this stream than the bus promises, one line for each reason. Of plain messages,
 * which may get lost, nothing is said.
 */
export const streamWarnings = (kind: TopicSpec["kind"], config: StreamConfig): ReadonlyArray<string> => {
  if (kind === "plain") return []
  const warnings: Array<string> = []
  const { max_age = 0, max_bytes = -1, max_msgs = -1, max_msgs_per_subject = -1 } = config
  if ((config.num_replicas ?? 1) === 1) {
    warnings.push(
      "one replica: what was acknowledged is lost with its server's disk, and with its power what was not synced (sync_interval, 2 minutes by default)"
    )
  }
  if (config.storage === "memory") warnings.push("storage memory: a restart of the server empties it")
  if (config.persist_mode === "async") {
    warnings.push("persist_mode async: what was acknowledged is lost with its server, for it is written later")
  }
  const { discard, discard_new_per_subject } = config
  const limits = {
    ...(discard === "new" ? {} : { max_bytes, max_msgs }),
    ...(discard === "new" && discard_new_per_subject === true ? {} : { max_msgs_per_subject })
  }
  for (const [name, limit] of Object.entries(limits)) {
    if (limit > 0) {
      const how = discard === "new" ? "discard new, and not per subject," : "discard old"
      warnings.push(`${how} with ${name} ${limit}: the oldest messages are dropped, also those nobody has read`)
    }
  }
  if (max_age > 0) {
    warnings.push(`max_age ${seconds(max_age)}: what a group has not read by then is dropped`)
  }
  if (config.retention === "interest") {
    warnings.push("retention interest: what is published before the first group has subscribed is not kept")
  }
  const window = config.duplicate_window ?? 0
  if (window > 0 && window < publishTimeout * 1e6) {
    warnings.push(
      `duplicate_window ${
        seconds(window)
      }: shorter than a publish takes at most, so an attempt that is repeated can be written twice`
    )
  }
  return warnings
}

/**
 * Why the bucket of the leases, as it was found, can't hold leases: two instances could have the same partition, or none could take one.
 */
export const bucketProblems = (config: StreamConfig): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const { max_age = 0, max_bytes = -1, max_msg_size = -1, max_msgs = -1, mirror, no_ack, retention = "limits" } = config
  const { deny_purge, discard_new_per_subject, max_msgs_per_subject = -1, subject_transform } = config
  if (max_age > 0) {
    problems.push(
      `max_age ${
        seconds(max_age)
      } (a TTL): the key of a partition vanishes while its owner works, and another instance takes it`
    )
  }
  if (config.discard !== "new") {
    for (const [name, limit] of Object.entries({ max_bytes, max_msgs })) {
      if (limit > 0) problems.push(`${name} ${limit} with discard old: keys vanish while the owners of partitions work`)
    }
  }
  if (retention !== "limits") problems.push(`retention ${retention}: keys vanish when they were read`)
  if (discard_new_per_subject === true && max_msgs_per_subject > 0) {
    problems.push("discard_new_per_subject: a key can't be written again, so no lease can be renewed")
  }
  if (max_msg_size > 0 && max_msg_size < largestKey) {
    problems.push(`max_msg_size ${max_msg_size}: a key of an instance needs up to ${largestKey} bytes`)
  }
  if (deny_purge === true) {
    problems.push("deny_purge: the keys of instances that have gone stay, and nobody takes over their partitions")
  }
  if (no_ack === true) problems.push("no_ack: nobody is told whether a partition was taken")
  if (mirror !== undefined) problems.push(`a mirror ("${mirror.name}"): it can't be written to`)
  if (subject_transform !== undefined) problems.push("subject_transform: keys are stored under other names")
  return problems
}

/**
 * Why the bucket of the leases, as it was found, fails sooner than the topic's stream, which has so many replicas.
 */
export const bucketWarnings = (config: StreamConfig, replicas: number): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  const { max_bytes = -1, max_msg_size = -1, max_msgs = -1, num_replicas = 1, storage } = config
  for (const [name, limit] of Object.entries({ max_bytes, max_msgs })) {
    if (limit > 0) warnings.push(`${name} ${limit}: when it is full no instance can join or take over`)
  }
  if (max_msg_size > 0 && max_msg_size < largestRecord) {
    warnings.push(
      `max_msg_size ${max_msg_size}: what is settled before it is handled needs up to ${largestRecord} bytes, and where it does not fit nothing is handled at most once`
    )
  }
  if (num_replicas < replicas) {
    warnings.push(
      `num_replicas ${num_replicas} where ${replicas} are expected: without its servers no instance keeps its partitions`
    )
  }
  if (storage === "memory") {
    warnings.push("storage memory: after a restart of the server every partition is taken anew, and epochs begin again")
  }
  return warnings
}

/**
 * Why the account, as it was found, soon has no room for what is published, and for the leases.
 */
export const accountWarnings = ({ limits, memory = 0, storage = 0 }: AccountInfo): ReadonlyArray<string> => {
  const warnings: Array<string> = []
  const check = (name: string, used: number, limit: number) => {
    if (limit > 0 && used > limit * mostlyFull) {
      warnings.push(
        `${name} ${limit}, of which ${used} are used: when it is full nothing is published, and no instance can join or take over`
      )
    }
  }
  check("max_storage", storage, limits?.max_storage ?? -1)
  check("max_memory", memory, limits?.max_memory ?? -1)
  return warnings
}

/**
 * Why this consumer, as it was found, keeps less than the bus promises. Of the handlers' timeout nothing has to be known:
 * in-progress signals keep what is in hand alive for as long as the process runs.
 */
export const consumerWarnings = (
  semantics: SubscribeRequest["semantics"],
  { ackWait, inactiveThreshold, options = {} }: ConsumerSettings,
  found: ConsumerConfig | undefined,
  streamReplicas = 1
): ReadonlyArray<string> => {
  if (semantics === "at-most-once") return []
  const warnings: Array<string> = []
  if (ackWait < shortestAckWait) {
    warnings.push(
      `ackWait ${ackWait} ms: a process that stands still for longer (garbage collection, a suspended machine) loses its messages to another one that reads, which handles them, too`
    )
  }
  if (inactiveThreshold > 0) {
    warnings.push(
      `inactiveThreshold ${seconds(inactiveThreshold * 1e6)}: a group that is away for longer loses its position`
    )
  }
  const { consumerReplicas } = options
  if (consumerReplicas !== undefined && consumerReplicas < streamReplicas) {
    warnings.push(
      `consumerReplicas ${consumerReplicas} where the stream has ${streamReplicas}: nothing is read while their servers are away, and a group's ` +
        "position is lost with their disks"
    )
  }
  const maxDeliver = found?.max_deliver ?? -1
  if (maxDeliver > 0) {
    warnings.push(
      `max_deliver ${maxDeliver} was set on the consumer: what was delivered so often and not acknowledged, the server has given up`
    )
  }
  return warnings
}

type ConsumerSettings = Pick<Settings, "ackWait" | "inactiveThreshold"> & Partial<Pick<Settings, "options">>
