/**
 * What a topic is to be like, where the transport makes, changes or checks it.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type { Compression } from "./Compression.js"

/**
 * What is left out is the broker's default when the topic is made, and is left as it is otherwise.
 *
 * @since 0.1.0
 * @category models
 */
export interface TopicSettings {
  /** How many partitions it has; what the topic's definition says (`Topic.envelope(name, schema, { partitions })`) comes before it. */
  readonly partitions?: number | undefined
  /** Replicas of each partition. */
  readonly replicationFactor?: number | undefined
  /** How long messages are kept; `Duration.infinity` for ever (`retention.ms`). */
  readonly retention?: Duration.DurationInput | undefined
  /** How many bytes of a partition are kept; −1 for no limit (`retention.bytes`). */
  readonly retentionBytes?: number | undefined
  /** `delete` what is old, `compact` to the last message of each key, or both (`cleanup.policy`). */
  readonly cleanupPolicy?: "delete" | "compact" | "compact,delete" | undefined
  /** How the broker stores batches; `producer`, its default, is as they come (`compression.type`). */
  readonly compression?: Exclude<Compression, "none"> | "uncompressed" | "producer" | undefined
  /** How many replicas have to have a message before it is acknowledged (`min.insync.replicas`). */
  readonly minInsyncReplicas?: number | undefined
  /** Any other setting, by Kafka's name. */
  readonly config?: Readonly<Record<string, string>> | undefined
}

/**
 * A few partitions, kept for a week.
 *
 * @since 0.1.0
 * @category presets
 */
export const lowThroughput: TopicSettings = { partitions: 3, retention: "7 days" }

/**
 * Up to some thousand messages a second, kept for three days.
 *
 * @since 0.1.0
 * @category presets
 */
export const mediumThroughput: TopicSettings = { partitions: 12, retention: "3 days" }

/**
 * Tens of thousands of messages a second, kept for a day and up to 10 GiB a partition.
 *
 * @since 0.1.0
 * @category presets
 */
export const highThroughput: TopicSettings = { partitions: 48, retention: "1 day", retentionBytes: 10 * 1024 ** 3 }

/**
 * The settings by Kafka's names, without the numbers of partitions and replicas.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toConfig = (settings: TopicSettings): Readonly<Record<string, string>> => {
  const { cleanupPolicy, compression, minInsyncReplicas, retention, retentionBytes } = settings
  const millis = retention === undefined ? undefined : Duration.toMillis(retention)
  return {
    ...(millis === undefined ? {} : { "retention.ms": String(Number.isFinite(millis) ? Math.round(millis) : -1) }),
    ...(retentionBytes === undefined ? {} : { "retention.bytes": String(retentionBytes) }),
    ...(cleanupPolicy === undefined ? {} : { "cleanup.policy": cleanupPolicy }),
    ...(compression === undefined ? {} : { "compression.type": compression }),
    ...(minInsyncReplicas === undefined ? {} : { "min.insync.replicas": String(minInsyncReplicas) }),
    ...settings.config
  }
}
