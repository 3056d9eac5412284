/**
 * The port between the bus and what carries its messages. A transport moves
 * bytes, knows positions and settles them; it knows nothing of envelopes,
 * handlers or actors. `docs/writing-a-transport.md` explains how to write one.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { PublishError, ReadError, ReadFailed, SettlementFailed, SubscribeError } from "./EventBusError.js"
import type { Headers } from "./Headers.js"
import { describeCause } from "./internal/describeCause.js"
import * as Logging from "./internal/logging.js"

/**
 * What a transport has to know about a topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface TopicSpec {
  readonly name: string
  /** Envelopes are stored durably by default; plain messages may be kept in memory where the broker has the choice. */
  readonly kind: "envelope" | "plain"
  /** How many partitions the topic gets if the transport creates it. Default: the transport's setting. */
  readonly partitions?: number | undefined
}

/**
 * A message on its way to the broker.
 *
 * @since 0.1.0
 * @category models
 */
export interface OutgoingMessage {
  /** Identifies the message for the broker's deduplication (an envelope's event id). */
  readonly id: string | undefined
  /** What the message is ordered by. It becomes Kafka's key if `key` is null, and the `X-Aggregate-ID` header in NATS. */
  readonly aggregateId: string | undefined
  readonly key: Uint8Array | null
  /** May be a part of a larger buffer, and is not written to again. */
  readonly value: Uint8Array | null
  readonly headers: Headers
  /** Milliseconds since the epoch. Undefined: the transport uses its own clock. */
  readonly timestamp: number | undefined
}

/**
 * Where a published message was written.
 *
 * @since 0.1.0
 * @category models
 */
export interface Receipt {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /**
   * `true` where a publish before this one had written the same message, by its id, and nothing was written now: subscribers may have
   * handled it long ago. Left out otherwise, and by brokers that don't know ids.
   */
  readonly wasStored?: boolean | undefined
}

/**
 * A message as the broker handed it over.
 *
 * @since 0.1.0
 * @category models
 */
export interface IncomingMessage {
  /** The topic (in NATS the subject) that the message was published to. */
  readonly topic: string
  readonly partition: number
  /** Kafka's offset, the stream sequence in NATS. Ascending within a partition, with gaps. */
  readonly offset: number
  readonly key: Uint8Array | null
  /** `null` is Kafka's tombstone. The bytes belong to the receiver: they must not pin a buffer that is much larger (a pool's 8 KiB may be). */
  readonly value: Uint8Array | null
  readonly headers: Headers
  /** Milliseconds since the epoch. */
  readonly timestamp: number
  /** Whether the message may have been handed over before, to this process or another. */
  readonly maybeDuplicate: boolean
  /** How often the broker delivered it, this time included; undefined where the broker does not count. */
  readonly deliveryCount: number | undefined
}

/**
 * One partition that was given to a subscription, for as long as it stays. The
 * transport makes it; the bus calls it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Assignment {
  readonly topic: string
  readonly partition: number
  /** Rises with each assignment of the partition; a fencing token for the handlers' own writes. */
  readonly epoch: number
  /**
   * Says that a message is finished. Synchronous and cheap; the broker learns of it soon (at
   * most a second later) and at closing. After the assignment has ended it does nothing.
   */
  readonly finish: (message: IncomingMessage) => void
  /**
   * Settles messages now, before they are handled: succeeds only when the broker has confirmed it.
   * Must answer within a deadline of its own.
   */
  readonly settle: (messages: ReadonlyArray<IncomingMessage>) => Effect.Effect<void, SettlementFailed>
  /**
   * The lane, which had refused messages, has room again. Synchronous; called at most once
   * for each refusal, from anywhere, and never from within `Lane.offer`.
   */
  readonly resume: () => void
  /**
   * Whether it is certain, by a monotonic clock of this process, that no other member has the partition yet (rule 12). The lane asks
   * before each start of a handler, so that a process which was suspended starts none when it wakes up. Synchronous and cheap.
   * After the first `false` nothing starts any more, and the transport has to close the lane. Left out where
   * no other member can take the partition before the lane is closed.
   */
  readonly isOwned?: (() => boolean) | undefined
}

/**
 * Where the messages of one assigned partition go. The bus makes it; the
 * transport calls it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lane {
  /**
   * Hands over messages in broker order, and answers how many of them, from the start, were
   * taken. Fewer than all means that a bound is reached, or that running handlers get on first: the transport stops
   * fetching, waits for `Assignment.resume` and offers the rest again. Synchronous; never throws.
   */
  readonly offer: (messages: ReadonlyArray<IncomingMessage>) => number
  /**
   * The partition is being taken away, or the subscription closes: takes and starts nothing more, waits
   * until what runs has ended, interrupts what has not by the deadline, and answers what was left.
   * With `finishQueued` what was taken before is worked off as well (closing); without it,
   * it is dropped unsettled (a rebalance). When it has returned, the assignment isn't called any more.
   */
  readonly close: (options: {
    readonly deadline: Duration.Duration
    readonly finishQueued: boolean
  }) => Effect.Effect<LaneReport>
}

/**
 * What a closed lane left.
 *
 * @since 0.1.0
 * @category models
 */
export interface LaneReport {
  /** Messages that were taken and are not finished: unsettled, they will come again. */
  readonly unfinished: number
  /** Messages that were settled before, and whose handlers did not start or were interrupted. */
  readonly lost: number
}

/**
 * The bus's side of a subscription.
 *
 * @since 0.1.0
 * @category models
 */
export interface Consumer {
  /** The subscription got a partition. Synchronous. A partition has one open lane at most. */
  readonly assigned: (assignment: Assignment) => Lane
}

/**
 * When a message is settled: after it was finished (at-least-once), or before
 * its handler starts (at-most-once).
 *
 * @since 0.1.0
 * @category models
 */
export type Semantics = "at-least-once" | "at-most-once"

/**
 * Where a group that has no position yet begins to read. At a time: with the first message of each partition that is not
 * older. At offsets, by partition: there, and where none is given at the earliest; an offset that the
 * partition does not have any more, or not yet, means its nearest end. Where another group has stopped: with what that has not settled, in each
 * partition; the other one must not be alive, and a partition in which it has no position begins at the earliest. Only transports that
 * say so in their capabilities can do the last three: Kafka and NATS all of them, memory only the last.
 *
 * @since 0.1.0
 * @category models
 */
export type StartFrom =
  | "earliest"
  | "latest"
  | { readonly time: Date }
  | { readonly offsets: Readonly<Record<number, number>> }
  | { readonly group: string }

/**
 * What a transport is asked for when a subscription begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface SubscribeRequest {
  readonly topic: TopicSpec
  /** The name that instances share; what it becomes on the broker is up to the transport, and documented there. */
  readonly group: string
  readonly semantics: Semantics
  readonly startFrom: StartFrom
  /**
   * How far finished messages may run ahead of the oldest unfinished one of their partition, in
   * offsets. A transport whose settlement is a position stops fetching there.
   */
  readonly maxAboveWatermark: number
  /** How many messages of a partition can be unfinished at once (a hint for prefetching; the lane enforces it). */
  readonly maxUnfinished: number
  /** How long handlers may go on when a partition is taken away. */
  readonly drainDeadline: Duration.Duration
}

/**
 * One partition of a running subscription, as its transport sees it now. Times are milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionStatus {
  readonly topic: string
  readonly partition: number
  readonly epoch: number
  /** The next offset that the transport will offer. */
  readonly position: number
  /** The lowest offset that is not finished; all below it are. */
  readonly watermark: number
  /** The offset that the next published message will get, as far as the transport knows; `undefined` while it does not. */
  readonly end: number | undefined
  /** When `position` or `watermark` moved last, or the partition was assigned. */
  readonly movedAt: number
}

/**
 * What a problem is about, for whoever decides by it.
 *
 * - `commit`: settlements are not confirmed.
 * - `fetch`: nothing can be read from a partition, or it can't begin.
 * - `lease`: leases can't be renewed, taken or looked at.
 * - `group`: the group does not settle, or its coordinator does not answer.
 * - `dead-letter`: dead letters can't be published.
 * - `right`: the broker refuses it for want of a right, whatever is tried.
 * - `paused`: somebody wants it so.
 * - `circuit`: a circuit is open: what its handler needs is down.
 * - `guard`: too many messages would be given up, and its guard has stopped it.
 * - `broken`: the subscription has broken for good. Nothing is tried any more.
 *
 * @since 0.1.0
 * @category models
 */
export type ProblemKind =
  | "commit"
  | "fetch"
  | "lease"
  | "group"
  | "dead-letter"
  | "right"
  | "paused"
  | "circuit"
  | "guard"
  | "broken"

/**
 * Something that has been failing since a time and is tried again: a commit, a fetch, a lease.
 *
 * @since 0.1.0
 * @category models
 */
export interface Problem {
  /** What fails, and what it means for the user. No payload and no secret. */
  readonly message: string
  /** Milliseconds since the epoch. */
  readonly since: number
  /** Left out where it is none of them. */
  readonly kind?: ProblemKind | undefined
}

/**
 * A running subscription, as its transport sees it now.
 *
 * @since 0.1.0
 * @category models
 */
export interface SourceStatus {
  /** Whether the transport has a connection to a broker that serves this subscription. */
  readonly isConnected: boolean
  /** The partitions that this subscription owns now. */
  readonly partitions: ReadonlyArray<PartitionStatus>
  /** What is failing now. Empty where all is well. */
  readonly problems: ReadonlyArray<Problem>
}

/**
 * A running subscription. It ends with the scope it was made in: then the transport settles what is
 * finished, with the broker's confirmation, and leaves the group.
 *
 * @since 0.1.0
 * @category models
 */
export interface Source {
  /** Stops fetching for good: when it has returned, nothing more is offered. Assignments stay and can finish messages. */
  readonly stop: Effect.Effect<void>
  /** How the subscription stands now: read from memory, without a request to the broker. Left out where the transport can't tell. */
  readonly status?: Effect.Effect<SourceStatus> | undefined
  /**
   * Ends with the error when the subscription breaks for good after it stood; what the transport repairs by itself is no such
   * break. It never succeeds. Left out where a subscription can't break.
   */
  readonly failed?: Effect.Effect<never, SubscribeError> | undefined
}

/**
 * Where a bounded read begins. At a time: with the first message of each partition that is not older. At offsets, by
 * partition: there, and where none is given at the earliest.
 *
 * @since 0.1.0
 * @category models
 */
export type ReadFrom = Exclude<StartFrom, "latest" | { readonly group: string }>

/**
 * Where a bounded read ends; what is there is not read any more. Now: what is in the topic when the read begins. At a
 * time: before the first message of each partition that is not older. At offsets, by partition: before
 * these, and where none is given as for now. It never reaches beyond now.
 *
 * @since 0.1.0
 * @category models
 */
export type ReadTo =
  | "now"
  | { readonly time: Date }
  | { readonly offsets: Readonly<Record<number, number>> }

/**
 * Which part of a topic is to be read.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadRequest {
  readonly topic: TopicSpec
  readonly from: ReadFrom
  readonly to: ReadTo
}

/**
 * One partition of a bounded read, with its bounds, which were fixed when the read began.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadPartition {
  readonly partition: number
  /** No message below this offset is read. */
  readonly from: number
  /** No message at this offset or above it is read; not below `from`. */
  readonly to: number
  /**
   * The messages in broker order, read from the broker as they are pulled. It ends when nothing below `to` is left, also where
   * the last offsets are no messages (compaction, transactions) and where the partition is empty. Broken
   * connections are the transport's: it fails only when it can't go on. For one consumer, once.
   */
  readonly messages: Stream.Stream<IncomingMessage, ReadFailed>
}

/**
 * A change of a store: `null` removes the key.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoreChange {
  /** Any text of 1 to 1,024 bytes in UTF-8. */
  readonly key: string
  readonly value: Uint8Array | null
}

/**
 * A change as it is read back.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoreEntry extends StoreChange {
  /** Ascending within a partition, with gaps. A later change of the same key has a higher one. */
  readonly revision: number
}

/**
 * A durable map from keys to bytes for each partition of a topic, which belongs to one group: a compacted topic on Kafka, a stream that keeps one
 * message for each subject on NATS, a map in memory. The bus keeps in it what has to outlive its processes: which
 * aggregates are parked, their letters, which messages are suspected. Only the owner of a partition depends on what is in it;
 * any member may write to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  /**
   * Writes changes of one partition, in the order given, and answers the revision of each, at the same index, once the broker has stored it
   * durably. The first that fails is the last that is tried: those behind it fail, too, and are certainly not written, save those that went out
   * together with one whose outcome is unknown: theirs is unknown, too. So what is written of a call is always a beginning of it. It never fails as
   * a whole and never hangs. Several calls for one partition are written in the order in which they began.
   */
  readonly write: (
    partition: number,
    changes: ReadonlyArray<StoreChange>,
    options: { readonly timeout: Duration.Duration }
  ) => Effect.Effect<ReadonlyArray<Either.Either<number, PublishError>>>
  /**
   * The changes of a partition with a revision above `after` (default: all), up to what was written when the reading began, in the order of their
   * revisions. Of a key's changes the newest is certainly there if it is a value; what it replaced and what was removed may be there or
   * not. So a reader that applies them one after the other knows the map. What one owner wrote and had confirmed,
   * the next one reads. With `keys` it reads only these, where that is cheaper; others may be among them.
   */
  readonly read: (
    partition: number,
    options?: { readonly after?: number | undefined; readonly keys?: ReadonlyArray<string> | undefined }
  ) => Stream.Stream<StoreEntry, ReadFailed>
}

/**
 * What a transport can and can't do. The bus asks for `startAt`, the conformance suite for `settlement` and
 * `maxMessageBytes`; the others are for programs that run on several transports.
 *
 * @since 0.1.0
 * @category models
 */
export interface Capabilities {
  /** Whether messages outlive the process that published them. */
  readonly durable: boolean
  /** Whether a message carries a key and arbitrary bytes in its headers, as in Kafka. */
  readonly binaryHeaders: boolean
  /** Whether `value: null` is told apart from an empty value. */
  readonly tombstones: boolean
  /** Whether a topic can have several partitions. */
  readonly partitions: boolean
  /**
   * What is settled: a position, below which everything is (Kafka's offset), so that `maxAboveWatermark` applies; or each
   * message by itself (NATS).
   */
  readonly settlement: "position" | "message"
  /** Whether a group can begin at a time or at given offsets. Default: no. */
  readonly startAt?: boolean | undefined
  /** Whether a group can begin where another one has stopped. Default: no. */
  readonly startAfterGroup?: boolean | undefined
  /** The largest value in bytes that certainly passes with the broker's default settings. */
  readonly maxMessageBytes: number
}

/**
 * A transport: what carries the messages of a bus.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** `memory`, `kafka`, `nats`, or a name of your own; for messages, logs and metrics. */
  readonly name: string
  readonly capabilities: Capabilities
  /**
   * Publishes messages, those with the same aggregate id (or key) in the order given, and answers for each of
   * them, at the same index, within `timeout`. It never fails as a whole and never hangs.
   * The topic is made or checked on first use, as the transport's configuration says.
   */
  readonly publish: (
    topic: TopicSpec,
    messages: ReadonlyArray<OutgoingMessage>,
    options: { readonly timeout: Duration.Duration }
  ) => Effect.Effect<ReadonlyArray<Either.Either<Receipt, PublishError>>>
  /**
   * Joins the group and begins to offer messages to the consumer's lanes. It returns when the subscription
   * stands (for a `latest` start: what is published from now on will be delivered). A broken loop is started
   * again by the transport itself.
   */
  readonly subscribe: (
    request: SubscribeRequest,
    consumer: Consumer
  ) => Effect.Effect<Source, SubscribeError, Scope.Scope>
  /**
   * Reads a bounded part of a topic, outside of any group: nothing is settled, no group and no subscription notices.
   * It answers when the bounds of all partitions are known. What it opened ends with the scope. `maybeDuplicate` of what is read is true. Left out where a transport can't: replaying then fails with `ReplayUnsupported`.
   */
  readonly read?:
    | ((request: ReadRequest) => Effect.Effect<ReadonlyArray<ReadPartition>, ReadError, Scope.Scope>)
    | undefined
  /**
   * Opens the store of a group beside a topic, and makes it on the broker if there is none, with a place for each partition of the topic. `name` tells several
   * stores of one group apart. What it opened ends with the scope, the store on the broker stays. Left out where a transport has none: what needs one
   * is refused when somebody subscribes.
   */
  readonly store?:
    | ((
      request: { readonly topic: TopicSpec; readonly group: string; readonly name: string }
    ) => Effect.Effect<Store, SubscribeError, Scope.Scope>)
    | undefined
  /** Whether a subscription to the topic also gets what is published to the other one. Left out where no topic is a pattern of several. */
  readonly covers?: ((topic: TopicSpec, other: TopicSpec) => boolean) | undefined
}

/**
 * For transports and observers: a cause as text for a log. Its length has a bound, what a Schema says is shown without payload, and of a
 * stack the user's frames only. It never throws, for any thrown value. `Cause.pretty` guarantees none of these.
 *
 * @since 0.1.0
 * @category transports
 */
export const causeInWords: (cause: Cause.Cause<unknown>) => string = describeCause

/**
 * For transports: an effect in which no logger of the application can throw, nor in the fibers that it forks. A transport makes itself
 * within it; the bus subscribes and reads within it.
 *
 * @since 0.1.0
 * @category transports
 */
export const logSafely: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Logging.unbreakable

/**
 * The transport of an application, chosen by configuration or provided directly.
 *
 * @since 0.1.0
 * @category tags
 */
export class Transport extends Context.Tag("@effect-eventbus/core/Transport")<Transport, Service>() {}
