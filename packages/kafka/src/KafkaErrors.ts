/**
 * What a failed request means to the users of the transport.
 *
 * @since 0.1.0
 */
import {
  BrokerUnreachable,
  InvalidConfiguration,
  InvalidMessage,
  PublishFailed,
  SubscribeFailed,
  UnknownTopic
} from "@effect-eventbus/core/EventBusError"
import type { PublishError, SubscribeError } from "@effect-eventbus/core/EventBusError"
import type { FailureType, KafkaFailure } from "./internal/Failure.js"

/** Errors of the broker that a change of the settings, and nothing else, can end. */
const misconfigured: Readonly<Partial<Record<FailureType, string>>> = {
  INVALID_TOPIC_EXCEPTION: "the broker does not accept the topic's name: use up to 249 of A-Z a-z 0-9 . _ -",
  INVALID_PARTITIONS: "the broker does not accept the number of partitions (kafka.partitions)",
  INVALID_REPLICATION_FACTOR:
    "the broker does not accept the number of replicas (kafka.replicationFactor): it can't exceed the number of brokers",
  INVALID_CONFIG: "the broker does not accept a setting of the topic (topicSettings, topicDefaults)",
  POLICY_VIOLATION: "a policy of the broker forbids it",
  TOPIC_AUTHORIZATION_FAILED: "the user is not authorized for the topic",
  GROUP_AUTHORIZATION_FAILED: "the user is not authorized for the group",
  CLUSTER_AUTHORIZATION_FAILED: "the user is not authorized for the cluster",
  INVALID_SESSION_TIMEOUT:
    "the broker does not accept kafka.sessionTimeout: see group.min.session.timeout.ms and group.max.session.timeout.ms",
  INCONSISTENT_GROUP_PROTOCOL: "the group is in use by consumers that are not of this library: choose another group",
  FENCED_INSTANCE_ID: "another process has joined the group with the same kafka.groupInstanceId",
  UNRELEASED_INSTANCE_ID: "another process is in the group with the same kafka.groupInstanceId",
  INVALID_GROUP_ID: "the broker does not accept the group's name",
  Authentication: "the broker does not accept the user (kafka.sasl)"
}

/**
 * The settings that are wrong according to the broker, if that is what the failure is.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toInvalidConfiguration = (failure: KafkaFailure, topic?: string): InvalidConfiguration | undefined => {
  const issue = misconfigured[failure.type]
  return issue === undefined ? undefined : new InvalidConfiguration({ issues: [issue], topic, cause: failure })
}

/**
 * A failure before anything of a message was sent.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toPublishError = (topic: string, failure: KafkaFailure): PublishError => {
  if (failure.type === "UNKNOWN_TOPIC_OR_PARTITION") {
    return new UnknownTopic({ topic, transport: "kafka", cause: failure })
  }
  if (failure.type === "Encoding") {
    return new InvalidMessage({ topic, issue: `it can't be encoded: ${messageOf(failure.cause)}`, cause: failure })
  }
  return toInvalidConfiguration(failure, topic) ?? new PublishFailed({
    topic,
    reason: failure.isUnreachable ? "Unreachable" : "Rejected",
    outcome: "not-written",
    cause: failure
  })
}

/**
 * A failure while a subscription is being made.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toSubscribeError = (
  topic: string,
  group: string,
  addresses: ReadonlyArray<string>,
  failure: KafkaFailure
): SubscribeError => {
  if (failure.type === "UNKNOWN_TOPIC_OR_PARTITION") {
    return new UnknownTopic({ topic, transport: "kafka", cause: failure })
  }
  if (failure.isUnreachable) return new BrokerUnreachable({ transport: "kafka", addresses, cause: failure })
  return toInvalidConfiguration(failure, topic) ?? new SubscribeFailed({ topic, group, cause: failure })
}

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)
