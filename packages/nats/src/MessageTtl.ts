/**
 * For how long the stream keeps a message: it is a header of the message, so it goes through the bus like any other.
 *
 * ```ts
 * bus.publish(Offers, { aggregateId, payload, headers: MessageTtl.after("1 hour") })
 * ```
 *
 * The stream has to allow it (`nats.messageTtl`), and else the publish fails with `PublishFailed`, reason `Rejected`; with a server before
 * 2.11, which would keep the message for ever, it fails with `InvalidMessage`. What has expired before a group has read it, the group does
 * not get. Readers don't see the header, so a dead letter is kept.
 *
 * @since 0.1.0
 */
import type { Headers } from "@effect-eventbus/core/Headers"
import * as Duration from "effect/Duration"

/**
 * The stream drops the message after this time, in whole seconds, at least 1 second. `Nats-TTL`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const after = (ttl: Duration.DurationInput): Headers => ({
  "Nats-TTL": String(Math.max(1, Math.ceil(Duration.toSeconds(ttl))))
})

/**
 * The stream keeps the message also beyond its own `max_age`. `Nats-TTL: never`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const never: Headers = { "Nats-TTL": "never" }
