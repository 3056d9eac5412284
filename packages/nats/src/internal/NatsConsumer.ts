/**
 * Subscriptions: this instance's share of a group's partitions, each read from
 * a durable pull consumer of its own.
 *
 * Which partitions an instance owns is decided by leases; a topic without partitions is one, which one instance owns while the
 * others stand by. Messages are acknowledged one by one when they are finished. Those in hand are kept alive with in-progress
 * signals, so a handler may take longer than the ack wait. Whenever reading begins, what is outstanding at the server and not in
 * hand here (after a crash, or lost with a connection) is got back first, in stream order; newer messages wait for it.
 */
import {
  InvalidConfiguration,
  type SubscribeError,
  SubscribeFailed,
  type TakeOverRefused
} from "@effect-eventbus/core/EventBusError"
import type * as Observer from "@effect-eventbus/core/Observer"
import type { Consumer, Source, SourceStatus, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import { isTransient, type NatsRequestFailed, toSubscribeError } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import type { Api, ConsumerConfig } from "./Api.js"
import type { Aside } from "./Aside.js"
import { bounded } from "./Bounded.js"
import * as Bucket from "./Bucket.js"
import type { Connection } from "./Connection.js"
import * as DurableConsumer from "./DurableConsumer.js"
import { HeldBack } from "./HeldBack.js"
import { Lasting } from "./Lasting.js"
import type { Lease } from "./Lease.js"
import * as Leases from "./Leases.js"
import { consumerWarnings } from "./NatsPreflight.js"
import type { NatsStreams, StreamError } from "./NatsStreams.js"
import { OfferLimit, Pace } from "./OfferLimit.js"
import * as Placement from "./Placement.js"
import { Reader } from "./Reader.js"
import { SettledRecord } from "./SettledRecord.js"
import * as Succession from "./Succession.js"

/**
 * Begins a subscription; the transport's `subscribe`.
 */
export type Subscribe = (
  request: SubscribeRequest,
  consumer: Consumer
) => Effect.Effect<Source, SubscribeError, Scope.Scope>

/** How many consumers are looked at or made at once. */
const concurrency = 16

/** How long it is tried to tell the others that nothing more is taken, in milliseconds: it only saves them work. */
const leaving = 500

/** A renewal is waited for at least for so long, in milliseconds, and else for a third of the time between two. */
const shortestRenewal = 250

/**
 * Subscriptions on a connection of the transport. For the transport itself: applications use `NatsTransport`.
 */
export const make = (
  connection: Connection,
  api: Api,
  streams: NatsStreams,
  settings: Settings,
  observer: Observer.Service,
  aside: Aside
): Subscribe =>
(request, consumer) =>
  Effect.gen(function*() {
    const topic = request.topic.name
    const { group } = request
    const wanted = yield* consumersOf(settings, request)
    const { configs, stream } = yield* prepare(connection, api, streams, settings, request, wanted).pipe(
      (prepared) => patiently(connection, settings, prepared),
      Effect.mapError((failure) =>
        failure._tag === "TakeOverRefused" ? failure : toSubscribeError(topic, group, failure)
      )
    )

    const readers = new Map<Lease, { readonly reader: Reader; readonly fiber: Fiber.RuntimeFiber<void> }>()
    const heldBack = new HeldBack(() => {
      let bytes = 0
      for (const { reader } of readers.values()) bytes += reader.bufferedBytes
      return bytes
    })
    const pace = new Pace(() => readers.size)
    const opening = Effect.unsafeMakeSemaphore(concurrency)
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    let isStopped = false
    let isSubscribed = false
    let isStuck = false
    const bucketTimeout = Math.min(settings.requestTimeout, settings.leaseDuration / 2)
    const replicas = Math.max(settings.options.replicas ?? 1, stream.replicas)
    const bucket = Bucket.make(connection, settings, bucketTimeout, replicas)
    yield* patiently(connection, settings, bucket.ensure).pipe(
      Effect.mapError((failure) => toSubscribeError(topic, group, failure))
    )
    const prefix = Subject.toLease(group, topic)
    const leases = yield* Leases.make({
      bucket,
      renewals: Bucket.make(
        connection,
        settings,
        Math.min(bucketTimeout, Math.max(shortestRenewal, settings.leaseRenewInterval / 3)),
        replicas
      ),
      prefix,
      partitions: configs.length,
      duration: settings.leaseDuration,
      renewEvery: settings.leaseRenewInterval,
      margin: Math.max(
        settings.leaseDuration / 10,
        Math.min(Duration.toMillis(request.drainDeadline), settings.leaseDuration / 3)
      ),
      onTaken: (lease) => {
        const reader = new Reader({
          connection,
          api,
          streams,
          settings,
          request,
          consumer,
          observer,
          config: configs[lease.partition]!,
          isPartitioned: configs[lease.partition]!.filter_subject !== topic,
          lease,
          limit: new OfferLimit(bucket, prefix, lease, pace),
          settled: new SettledRecord(bucket, prefix, lease),
          heldBack,
          opening,
          sharers: () => Math.max(1, readers.size)
        })
        if (isStopped) reader.end(isSubscribed ? "Closed" : "Wanted")
        readers.set(lease, {
          reader,
          fiber: run(Effect.ensuring(reader.run, Effect.sync(() => readers.delete(lease))))
        })
      },
      onWanted: (lease) => readers.get(lease)?.reader.end("Wanted"),
      onLost: (lease) => {
        readers.get(lease)?.reader.lose()
        observer.event?.({ _tag: "LeaseLost", transport: "nats", topic, group })
      },
      onTakenOver: () => observer.event?.({ _tag: "TakenOver", transport: "nats", topic, group })
    })

    // They run from the last to the first: partitions are given back while their lease is renewed, and then it is ended.
    yield* Effect.addFinalizer(() =>
      settings.deleteConsumers
        ? Effect.ignoreLogged(connection.closing.within(deleteUnused(api, streams, leases, request, configs)))
        : Effect.void
    )
    yield* Effect.addFinalizer(() => isStuck ? Effect.void : connection.closing.within(leases.forget))
    yield* Effect.mapError(leases.join, (failure) => toSubscribeError(topic, group, failure))
    const stop = Effect.suspend(() => {
      isStopped = true
      return Effect.zipRight(
        Effect.forEach(Array.from(readers.values()), ({ reader }) => reader.stop, {
          concurrency: "unbounded",
          discard: true
        }),
        connection.closing.within(leases.leave, leaving)
      )
    }).pipe(Effect.asVoid)
    yield* Effect.addFinalizer(() =>
      stop.pipe(Effect.zipRight(Effect.suspend(() => {
        const all = Array.from(readers.values())
        // A subscription that did not come about closes its lanes itself.
        for (const { reader } of all) reader.end(isSubscribed ? "Closed" : "Wanted")
        return Effect.map(Fiber.awaitAll(all.map(({ fiber }) => fiber)), () => {
          isStuck = all.some(({ reader }) => reader.isStuck)
        })
      })))
    )
    yield* aside.join(leases, Duration.toMillis(request.drainDeadline) + 2 * settings.requestTimeout)
    yield* Effect.mapError(leases.take, (failure) => toSubscribeError(topic, group, failure))
    yield* bounded(
      Effect.forEach(Array.from(readers.values()), ({ reader }) => Deferred.await(reader.opened), { discard: true }),
      settings.requestTimeout
    )
    isSubscribed = true
    yield* Effect.logInfo("Joined the group").pipe(
      Effect.annotateLogs("partitions", Array.from(readers.keys(), ({ partition }) => partition).join(","))
    )
    const status = Effect.sync((): SourceStatus => {
      const all = Array.from(readers.values(), ({ reader }) => reader)
      return {
        isConnected: connection.isUp(),
        partitions: all.flatMap(({ status }) => status ?? []),
        problems: [
          ...(leases.problem === undefined ? [] : [leases.problem]),
          ...all.flatMap(({ problem }) => problem ?? [])
        ]
      }
    })
    const failed = Effect.raceFirst(
      connection.lost,
      Effect.mapError(leases.broken, (cause) => new SubscribeFailed({ topic, group, cause }))
    )
    return { stop, status, failed }
  }).pipe(Effect.annotateLogs({ transport: "nats", topic: request.topic.name, group: request.group }))

/** The settings of the consumer of each partition. */
const consumersOf = (
  settings: Settings,
  request: SubscribeRequest
): Either.Either<ReadonlyArray<ConsumerConfig>, InvalidConfiguration> => {
  const topic = request.topic.name
  return Either.gen(function*() {
    const { partitions, subject } = yield* Placement.of(settings, request.topic)
    const configs: Array<ConsumerConfig> = []
    for (let partition = 0; partition < (partitions ?? 1); partition++) {
      const durable = yield* Subject.toDurable(request.group, topic, partitions === undefined ? undefined : partition)
      const filter = partitions === undefined ? subject : Subject.ofPartition(topic, partition)
      configs.push(DurableConsumer.toConfig(durable, filter, partition, request, settings))
    }
    return configs
  }).pipe(Either.mapLeft((issue) => new InvalidConfiguration({ issues: [issue], topic })))
}

/** A server that is away at the moment, or has no leader for the stream, is waited for as long as for connecting at the beginning. */
export const patiently = <A, E extends StreamError | TakeOverRefused>(
  { client }: Connection,
  { connectAttempts, connectTimeout }: Settings,
  prepared: Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  const waits = new Lasting(
    "The subscription can't begin yet, and waits for the server",
    "The server answers, and the subscription begins",
    0
  )
  const isPassing = (failure: StreamError | TakeOverRefused): failure is NatsRequestFailed =>
    failure._tag === "NatsRequestFailed" && isTransient(failure) && !client.isClosed()
  return prepared.pipe(
    Effect.tapError((failure) => isPassing(failure) ? waits.now(failure) : Effect.void),
    Effect.retry({
      while: isPassing,
      schedule: Schedule.exponential("100 millis").pipe(
        Schedule.union(Schedule.spaced("1 second")),
        Schedule.upTo(connectAttempts * connectTimeout)
      )
    }),
    Effect.zipLeft(waits.over)
  )
}

/** Finds or makes stream and consumers, of all partitions: what is published from now on is kept for the partitions' future owners. */
const prepare = (
  connection: Connection,
  api: Api,
  streams: NatsStreams,
  settings: Settings,
  request: SubscribeRequest,
  wanted: ReadonlyArray<ConsumerConfig>
) =>
  Effect.gen(function*() {
    yield* streams.checkPattern(request.topic)
    const stream = yield* streams.refresh(request.topic)
    const { configs, done } = yield* Succession.begin({ connection, api, settings, request, stream, configs: wanted })
    const warnings = new Set<string>()
    yield* Effect.forEach(configs, (config) =>
      DurableConsumer.ensure(api, settings, stream, config, undefined, (found) =>
        Effect.sync(() => {
          if (settings.preflight === "off") {
            return
          }
          for (const warning of consumerWarnings(request.semantics, settings, found, stream.replicas)) {
            warnings.add(warning)
          }
        })), { concurrency, discard: true })
    yield* done
    if (warnings.size === 0) {
      return { configs, stream }
    }
    yield* Effect.logWarning("The consumer's settings are weaker than what the bus promises").pipe(
      Effect.annotateLogs({
        consumer: configs.map(({ durable_name }) =>
          durable_name
        ).join(", "),
        reasons: Array.from(warnings).join("; ")
      })
    )
    return { configs, stream }
  })

/** Where no other instance is there any more that reads from them. */
const deleteUnused = (
  api: Api,
  streams: NatsStreams,
  leases: Leases.Leases,
  request: SubscribeRequest,
  configs: ReadonlyArray<ConsumerConfig>
) =>
  Effect.gen(function*() {
    if (yield* leases.hasMembers) return
    const stream = yield* streams.get(request.topic)
    yield* Effect.forEach(configs, ({ durable_name }) => api.deleteConsumer(stream.name, durable_name!), {
      concurrency,
      discard: true
    })
  })
