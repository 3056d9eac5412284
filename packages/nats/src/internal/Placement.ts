/**
 * Where the messages of a topic stand: in its one subject, or in those of its
 * partitions.
 */
import * as Partitioner from "@effect-eventbus/core/Partitioner"
import type { OutgoingMessage, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Either from "effect/Either"
import type { Settings } from "../NatsConfig.js"
import * as Subject from "../Subject.js"

/** More than this are no partitions any more, but subjects. */
const maxPartitions = 1_024

/** A line of the protocol is 4,096 bytes long at most, with the reply subject in it. */
const maxSubject = 2_048

export interface Placement {
  /** Undefined: the subject is the topic. */
  readonly partitions: number | undefined
  /** What the topic's stream holds. */
  readonly subject: string
  /** What the stream says of itself, so that nobody publishes or reads it with another number of partitions. */
  readonly description: string | undefined
}

export const of = (settings: Settings, topic: TopicSpec): Either.Either<Placement, string> =>
  Either.flatMap(Subject.toFilter(topic.name), (subject): Either.Either<Placement, string> => {
    const isPattern = Subject.isPattern(subject)
    if (isPattern && topic.partitions !== undefined) {
      return Either.left(`topic "${topic.name}" has a wildcard, and so no partitions of its own`)
    }
    const partitions = isPattern ? undefined : topic.partitions ?? settings.options.partitions
    if (partitions === undefined) return Either.right({ partitions, subject, description: undefined })
    if (!(Number.isSafeInteger(partitions) && partitions >= 1 && partitions <= maxPartitions)) {
      return Either.left(`topic "${topic.name}" has ${partitions} partitions: expected 1 to ${maxPartitions}`)
    }
    return Either.right({
      partitions,
      subject: Subject.ofPartitions(subject),
      description: `effect-eventbus: partitions=${partitions} partitioner=${settings.partitioner}`
    })
  })

const encoder = new TextEncoder()

/** Finds the subject and the partition of each message of a topic. */
export type Place = (message: OutgoingMessage) => {
  readonly subject: string
  readonly partition: number
} | string

/**
 * By the aggregate id, or by the key of a message that has none. What has neither goes to one partition after the other.
 */
export const place = (settings: Settings, topic: TopicSpec, { partitions }: Placement): Place => {
  const { name } = topic
  if (partitions === undefined) {
    const only = { subject: name, partition: 0 }
    return () => only
  }
  let next = 0
  return ({ aggregateId, key }) => {
    const bytes = aggregateId === undefined ? key : encoder.encode(aggregateId)
    const partition = bytes === null
      ? next++ % partitions
      : Partitioner.partition(settings.partitioner, bytes, partitions)
    const subject = Subject.ofAggregate(name, partition, aggregateId)
    return subject.length > maxSubject
      ? `its aggregate id makes a subject of ${subject.length} characters; ${maxSubject} are possible`
      : { subject, partition }
  }
}
