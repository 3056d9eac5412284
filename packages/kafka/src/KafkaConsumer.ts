/**
 * Subscriptions: each is a member of its own, in a group of its own by default, named
 * `<group>.<topic>`, so that none has to wait for another's rebalance; or in one that all topics share.
 *
 * @since 0.1.0
 */
import type { SubscribeError } from "@effect-eventbus/core/EventBusError"
import { BrokerUnreachable, SubscribeFailed } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import type { Consumer, Service, Source, SourceStatus, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Assignments from "./internal/Assignments.js"
import type { Client } from "./internal/Client.js"
import type { Closing } from "./internal/Closing.js"
import type { KafkaFailure } from "./internal/Failure.js"
import * as FetchPool from "./internal/FetchPool.js"
import { GroupLinks } from "./internal/GroupLinks.js"
import * as Lasting from "./internal/Lasting.js"
import { monotonic } from "./internal/monotonic.js"
import * as Standing from "./internal/Standing.js"
import * as Succession from "./internal/Succession.js"
import type { GroupNaming, Settings } from "./KafkaConfig.js"
import { toSubscribeError } from "./KafkaErrors.js"
import type { KafkaTopics } from "./KafkaTopics.js"

/**
 * Begins subscriptions; the transport's `subscribe`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaConsumer {
  readonly subscribe: Service["subscribe"]
}

/**
 * The group of a subscription on the broker.
 *
 * @since 0.1.0
 * @category naming
 */
export const groupOf = (group: string, topic: string, groups: GroupNaming = "per-topic"): string =>
  groups === "shared" ? group : `${group}.${topic}`

/**
 * Subscriptions on a client of the transport. For the transport itself: applications use `KafkaTransport`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  client: Client,
  topics: KafkaTopics,
  settings: Settings,
  closing: Closing
): Effect.Effect<KafkaConsumer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const pool = yield* FetchPool.make(client, settings)
    const observer = yield* Observer.provided
    const links = new GroupLinks(monotonic(yield* Effect.clock))
    let subscriptions = 0
    return {
      subscribe: (request, consumer) =>
        Effect.suspend(() =>
          subscribe({
            client,
            pool,
            links,
            topics,
            settings,
            closing,
            observer,
            request,
            consumer,
            id: String(subscriptions++)
          })
        ).pipe(
          Effect.annotateLogs({
            module: "KafkaConsumer",
            topic: request.topic.name,
            group: groupOf(request.group, request.topic.name, settings.groups)
          })
        )
    }
  })

interface Subscribing {
  readonly client: Client
  readonly pool: FetchPool.FetchPool
  readonly links: GroupLinks
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly closing: Closing
  readonly observer: Observer.Service
  readonly request: SubscribeRequest
  readonly consumer: Consumer
  readonly id: string
}

const subscribe = (
  { client, closing, consumer, id, links, observer, pool, request, settings, topics }: Subscribing
): Effect.Effect<Source, SubscribeError, Scope.Scope> =>
  Effect.gen(function*() {
    const topic = request.topic.name
    const group = groupOf(request.group, topic, settings.groups)
    const toError = (failure: KafkaFailure) => toSubscribeError(topic, request.group, client.addresses, failure)

    yield* topics.ensure(request.topic).pipe(
      Effect.mapError((error) => error._tag === "KafkaFailure" ? toError(error) : error)
    )
    const nameOf = (name: string) => groupOf(name, topic, settings.groups)
    const inherited = yield* Succession.inherited({ client, links, topics, settings, request, group, id, nameOf }).pipe(
      Effect.mapError((error) => error._tag === "KafkaFailure" ? toError(error) : error)
    )
    const scope = yield* Scope.make()
    const lasting = yield* Scope.extend(Lasting.make, scope)
    const assignments = yield* Scope.extend(
      Assignments.make({
        client,
        pool,
        links,
        topics,
        settings,
        observer,
        request,
        consumer,
        group,
        id,
        lasting,
        inherited
      }),
      scope
    )
    const { committer, membership } = assignments

    // A finalizer can't be interrupted, so a deadline in it would wait for what it gives up.
    const inTime = <A, E>(step: Effect.Effect<A, E>) =>
      Effect.suspend(() => Effect.timeoutOption(Effect.interruptible(Effect.disconnect(step)), closing.leftMs))

    const close = Effect.gen(function*() {
      closing.begin()
      yield* inTime(assignments.stop)
      const left = yield* committer.flush(assignments.all(), closing.leftMs)
      if (left.length > 0) {
        yield* Effect.logWarning("The last commit was not confirmed: messages that were handled will come again").pipe(
          Effect.annotateLogs({ partitions: left.map(({ id }) => id).join(",") })
        )
      }
      assignments.end()
      // Its loop ends first: it would take the answer to leaving for a reason to join again.
      yield* inTime(Scope.close(scope, Exit.void))
      // A handler that can't be interrupted goes on: others get its partition as after a kill, when the session times out.
      const leaves = yield* assignments.areQuiet
      yield* inTime(leaves ? membership.leave : Effect.void).pipe(
        // The group finds out by itself when the session times out.
        Effect.catchAll((error) => Effect.logDebug("Leaving the group failed", error.message))
      )
      yield* inTime(Effect.forEach(assignments.roles, client.release, { concurrency: "unbounded", discard: true }))
    }).pipe(Effect.ensuring(Effect.sync(() => closing.end())))
    // Interrupting the second of two that close waits for the first.
    const closeOnce = yield* Effect.cached(close)

    // While the group gathers, the coordinator is asked by heartbeats whether it is there; one of them may be late.
    const patience = Math.max(settings.subscribeTimeout, 2.5 * settings.heartbeatInterval)
    const standing = Standing.stands(membership, patience).pipe(
      Effect.mapError((error) => {
        if (error._tag === "KafkaFailure") return toError(error)
        const cause = error.cause
        return cause === undefined || cause.isUnreachable
          ? new BrokerUnreachable({ transport: "kafka", addresses: client.addresses, cause })
          : new SubscribeFailed({ topic, group: request.group, cause })
      })
    )
    yield* Effect.addFinalizer(() => closeOnce)
    yield* Effect.forEach([membership.run, committer.run, assignments.watch], Effect.forkIn(scope), { discard: true })
    yield* Effect.onError(standing, () => closeOnce)
    const status = Effect.sync((): SourceStatus => ({
      isConnected: client.isConnected() && membership.isAlive(),
      partitions: assignments.all().map((partition) => ({
        topic,
        partition: partition.id,
        epoch: partition.options.epoch,
        position: partition.position,
        watermark: partition.tracker.watermark,
        end: partition.logEnd,
        movedAt: partition.movedAt
      })),
      problems: [...lasting.problems(), ...assignments.fetcher.problems()]
    }))
    return {
      stop: assignments.stop,
      status,
      failed: Effect.mapError(Deferred.await(membership.broken), toError)
    }
  })
