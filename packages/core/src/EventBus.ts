/**
 * The event bus. It publishes messages to topics and has them handled, the messages of one
 * aggregate strictly in order, on the transport that is provided.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Circuit from "./Circuit.js"
import type * as Control from "./Control.js"
import type * as Dispatch from "./Dispatch.js"
import * as EnvelopeCodec from "./EnvelopeCodec.js"
import { EventBusConfig } from "./EventBusConfig.js"
import { AlreadySubscribed, BusClosed, InvalidConfiguration, SubscribeFailed } from "./EventBusError.js"
import type { PublishError, SubscribeError } from "./EventBusError.js"
import * as Handler from "./internal/attempt.js"
import * as Checks from "./internal/checks.js"
import * as Circuits from "./internal/circuit/circuits.js"
import { Condition } from "./internal/condition.js"
import { Stopped } from "./internal/control/stopped.js"
import * as Dispatching from "./internal/dispatch.js"
import { FullMailboxes } from "./internal/fullMailboxes.js"
import * as Incoming from "./internal/incoming.js"
import * as Logging from "./internal/logging.js"
import { Mailboxes } from "./internal/mailboxes.js"
import * as Protection from "./internal/poison/protection.js"
import { policyIssues } from "./internal/policyIssues.js"
import { Presubscribed } from "./internal/presubscription.js"
import * as Provided from "./internal/provided.js"
import type { PublishAllFailed } from "./internal/publishing.js"
import * as Publishing from "./internal/publishing.js"
import { type AnySubscription, type Entry, Registry } from "./internal/registry.js"
import * as InternalReplay from "./internal/replay.js"
import { startIssueOf } from "./internal/startIssue.js"
import * as Strategies from "./internal/strategies.js"
import * as Internal from "./internal/subscription.js"
import { Watched } from "./internal/watched.js"
import * as Observer from "./Observer.js"
import type * as Replay from "./Replay.js"
import type { Service as StrategyService } from "./Strategy.js"
import { actorPerAggregate, Strategy } from "./Strategy.js"
import type {
  AnyOptions,
  CommonOptions,
  FailureOf,
  NotYetKnown,
  OptionsFor,
  Presubscription,
  PresubscriptionOptions,
  ReadingOptions,
  Subscription
} from "./Subscription.js"
import * as Supervisor from "./Supervisor.js"
import type * as Topic from "./TopicDefinition.js"
import type {
  EnvelopeDefinition,
  EnvelopeHandler,
  EnvelopeMessage,
  PlainDefinition,
  PlainHandler,
  PlainMessage
} from "./TopicDefinition.js"
import type { OutgoingMessage, Receipt, Semantics } from "./Transport.js"
import { Transport } from "./Transport.js"

export {
  /**
   * @since 0.1.0
   * @category errors
   */
  PublishAllFailed
} from "./internal/publishing.js"

/**
 * What an application does with a bus: publish, subscribe, replay.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Publishes one message, and succeeds when the broker has confirmed it. It ends within `publishTimeout` (10 seconds). After
   * `PublishFailed` with `outcome: "unknown"` the message may have been written all the same.
   */
  readonly publish: {
    <A, I>(topic: EnvelopeDefinition<A, I>, message: EnvelopeMessage<A>): Effect.Effect<Receipt, PublishError>
    (topic: PlainDefinition, message: PlainMessage): Effect.Effect<Receipt, PublishError>
  }
  /**
   * Publishes several messages in one go. The messages of one aggregate are written in the order given.
   * If some fail, the others are published all the same, and the error says which. With `stopAfterFailedPublish` the messages of one
   * aggregate are sent one after the other, and none follows one that failed.
   */
  readonly publishAll: {
    <A, I>(
      topic: EnvelopeDefinition<A, I>,
      messages: ReadonlyArray<EnvelopeMessage<A>>
    ): Effect.Effect<ReadonlyArray<Receipt>, PublishAllFailed>
    (
      topic: PlainDefinition,
      messages: ReadonlyArray<PlainMessage>
    ): Effect.Effect<ReadonlyArray<Receipt>, PublishAllFailed>
  }
  /**
   * Answers what `publish` would give to the transport, without publishing it: the encoded message with its id. An outbox can store it
   * beside your own data.
   */
  readonly encode: {
    <A, I>(topic: EnvelopeDefinition<A, I>, message: EnvelopeMessage<A>): Effect.Effect<OutgoingMessage, PublishError>
    (topic: PlainDefinition, message: PlainMessage): Effect.Effect<OutgoingMessage, PublishError>
  }
  /** The circuits of this bus: what is known to be down, and who waits for it. */
  readonly circuits: Circuit.Service
  /** Aggregates whose publishing has stopped after a failure, where the setting `stopAfterFailedPublish` says so. */
  readonly publishing: Control.Publishing
  /**
   * Subscribes for as long as the scope lives. A bus has one subscription of a topic and group at a time.
   * A topic's `toLayer` does the same as a layer.
   */
  readonly subscribe: <
    T extends Topic.Any,
    E = NotYetKnown,
    R = unknown,
    R2 = never,
    S extends Semantics = Topic.DefaultSemantics<T>
  >(
    topic: T,
    handler: (event: Topic.Event<T>, delivery: Topic.DeliveryOf<T>) => Effect.Effect<unknown, E, R>,
    ...options: T extends { readonly kind: "envelope" } ? [options: OptionsFor<"envelope", S, E, R2>]
      : [options?: OptionsFor<"plain", S, E, R2>]
  ) => Effect.Effect<Subscription<FailureOf<S, E>>, SubscribeError, R | R2 | Scope.Scope>
  /**
   * Joins the group of a topic before there is a handler, for as long as the scope lives. Messages are held until a subscription of this topic
   * and group attaches its handler, which needs no new join. When that subscription ends, messages are held again. With the option
   * `withoutHandler: "skip"` they are skipped instead. `Presubscription.layer` does the same as a layer.
   */
  readonly presubscribe: <A, I>(
    topic: EnvelopeDefinition<A, I> | PlainDefinition,
    options?: PresubscriptionOptions
  ) => Effect.Effect<Presubscription, SubscribeError, Scope.Scope>
  /**
   * Reads a bounded part of a topic (by default all of it until now) and has it handled: in order per aggregate, with aggregates side by side.
   * It is outside of any group, so that no subscription notices. The first handler that fails ends it.
   * The deliveries have the epoch 0, the group `replay`, and `maybeDuplicate`.
   */
  readonly replay: {
    <A, I, E, R>(
      topic: EnvelopeDefinition<A, I>,
      handler: EnvelopeHandler<A, E, R>,
      options?: Replay.Options
    ): Effect.Effect<Replay.Report, Replay.ReplayFailed<E> | Replay.ReplayError, Exclude<R, Scope.Scope>>
    <E, R>(
      topic: PlainDefinition,
      handler: PlainHandler<E, R>,
      options?: Replay.Options
    ): Effect.Effect<Replay.Report, Replay.ReplayFailed<E> | Replay.ReplayError, Exclude<R, Scope.Scope>>
  }
  /** The strategy of this bus, which can be changed while it runs. */
  readonly dispatch: Dispatch.Service
  /** The running subscriptions of this bus, those of layers included: what they are, their `stats`, `failures` and `close`. */
  readonly subscriptions: Effect.Effect<ReadonlyArray<AnySubscription>>
  /** The running subscription of a topic and group (default: the configured one) in this bus, if there is one. Takes no lock. */
  readonly find: (
    topic: string,
    group?: string
  ) => Option.Option<AnySubscription>
}

/**
 * The bus of an application; `layer` makes it.
 *
 * @since 0.1.0
 * @category tags
 */
export class EventBus extends Context.Tag("@effect-eventbus/core/EventBus")<EventBus, Service>() {}

type AnyTopic = EnvelopeDefinition<unknown, unknown> | PlainDefinition
type AnyHandler<E, R> = (event: never, delivery: never) => Effect.Effect<unknown, E, R>

/**
 * A bus on the provided transport, under the provided supervisor. When its scope ends, its subscriptions are closed and publishing ends.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function*() {
  const transport = yield* Transport
  const config = yield* EventBusConfig
  const clock = yield* Effect.clock
  const registry = new Registry(() => clock.unsafeCurrentTimeMillis())
  const given = yield* Effect.contextWith((context: Context.Context<never>) =>
    context.unsafeMap.get(Strategy.key) as StrategyService | undefined
  )
  const choice = Strategies.choose(config, given)
  const strategyIssues = choice.issues
  const first = strategyIssues.length === 0 ? choice.strategy : actorPerAggregate
  const observer = new Watched(
    yield* Observer.forBus({
      transport: transport.name,
      strategy: first.name,
      subscriptions: () => registry.all(),
      starting: () => registry.starting().map(({ group, since, topic }) => ({ topic, group, since }))
    })
  )
  const log = yield* Logging.atOnce
  const guard = yield* Strategies.guard
  const { turns } = yield* Supervisor.Supervisor
  const full = new FullMailboxes(observer, () => turns.monotonic())
  const mailboxes = new Mailboxes(
    yield* Supervisor.Supervisor,
    // With a wrong strategy nothing can be subscribed.
    guard(first),
    { capacity: config.mailboxCapacity, restartBase: config.restartBase, full }
  )
  yield* Effect.forkScoped(Effect.interruptible(full.run))
  const circuits = yield* Circuits.make(observer)
  const dispatch = yield* Dispatching.make({ mailboxes, guard, config, observer })
  yield* strategyIssues.length > 0
    ? Logging.error(`Dispatch: nothing can be subscribed: ${strategyIssues.join("; ")}`)
    : choice.source === undefined
    ? Logging.debug(`Dispatch: ${Strategies.describe(choice.strategy, config)}, by default`)
    : Logging.info(`Dispatch: ${Strategies.describe(choice.strategy, config)}, from ${choice.source}`)
  const codec = yield* EnvelopeCodec.EnvelopeCodec
  const provided = Provided.make({
    config: { tag: EventBusConfig, value: config },
    codec: { tag: EnvelopeCodec.EnvelopeCodec, value: codec },
    strategy: { tag: Strategy, value: choice.strategy },
    observer: { tag: Observer.Observer, value: observer }
  })
  const presubscribed = new Map<string, Presubscribed>()
  /** Nothing more is subscribed or replayed. */
  let isClosing = false
  /** Nothing is published any more: handlers publish until the mailboxes are worked off. */
  let isClosed = false
  const closing = yield* Effect.makeLatch(false)
  let starting = 0
  let replays = 0
  const noneStarts = new Condition(() => starting === 0)
  const noReplays = new Condition(() => replays === 0)

  /** Closing ends what begins, which may wait for long, for a broker or a group. */
  const unlessClosing = <A, E, R>(topic: string, run: Effect.Effect<A, E, R>) =>
    Effect.raceFirst(
      run,
      // Also in a region that can't be interrupted: the race waits for its loser.
      Effect.interruptible(Effect.zipRight(closing.await, new BusClosed({ topic })))
    )

  const begin = <A, E, R>(topic: string, run: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => starting++),
      () => unlessClosing(topic, run),
      () =>
        Effect.sync(() => {
          starting--
          noneStarts.changed()
        })
    )

  const stopped = new Stopped()
  const { encode, publish, publishAll } = Publishing.make({
    stopped: config.stopAfterFailedPublish ? stopped : undefined,
    transport,
    codec,
    observer,
    provided,
    timeout: config.publishTimeout,
    clock,
    isClosed: () => isClosed
  })

  const register = (topic: string, group: string) =>
    Effect.suspend((): Effect.Effect<Entry, BusClosed | AlreadySubscribed> => {
      if (isClosing) return new BusClosed({ topic })
      const entry = registry.add(topic, group)
      return entry === undefined ? new AlreadySubscribed({ topic, group }) : Effect.succeed(entry)
    })

  const subscribe = <E, R>(topic: AnyTopic, handler: AnyHandler<E, R>, given?: AnyOptions<E, R>) =>
    Effect.gen(function*() {
      yield* provided.check(topic.name)
      const options = {
        ...given,
        semantics: given?.semantics ?? Checks.semanticsOf(topic)
      } as Internal.Options<E, R>
      const issues = [...strategyIssues, ...Checks.issuesOf(options)]
      if (options.semantics === "at-least-once") {
        issues.unshift(
          ...policyIssues(transport, topic.spec, options.onExhausted),
          ...Protection.issuesOf(options.poison)
        )
        if (options.onUnknownType !== undefined && options.onUnknownType._tag !== "Skip") {
          issues.unshift(...policyIssues(transport, topic.spec, options.onUnknownType, "onUnknownType"))
        }
      }
      if (options.semantics === "at-least-once" && options.parking !== undefined) {
        issues.unshift(...policyIssues(transport, topic.spec, options.parking, "parking"))
      }
      if (issues.length > 0) return yield* new InvalidConfiguration({ topic: topic.name, issues })
      const group = options.group ?? config.group
      return yield* Effect.acquireUseRelease(
        register(topic.name, group),
        (entry) => begin(topic.name, start(entry, topic, handlerOf(topic, codec, handler, options), options)),
        // A subscription keeps its place until it is closed. One that could not be made gives it back.
        (entry, exit) =>
          Exit.isSuccess(exit)
            ? Effect.void
            : entry.subscription?.close ?? Effect.sync(() => registry.remove(entry))
      )
    })

  const start = <E, R>(
    entry: Entry,
    topic: AnyTopic,
    handler: Handler.Handler<E>,
    options: Internal.Options<E, R>
  ) =>
    Effect.gen(function*() {
      const onClosed = Effect.sync(() => registry.remove(entry))
      const former = yield* joined(topic, entry.group, options)
      const subscription = yield* Internal.make(
        {
          transport: former?.transport ?? transport,
          mailboxes,
          observer,
          config,
          circuits,
          onOpened: (subscription) => entry.subscription = subscription,
          onClosed
        },
        topic.spec,
        handler,
        options
      )
      if (isClosing) return yield* new BusClosed({ topic: topic.name })
      if (former?.isClosing === true) return yield* gone(topic, entry.group)
      return subscription
    })

  const gone = (topic: AnyTopic, group: string) =>
    new SubscribeFailed({ topic: topic.name, group, cause: "its pre-subscription has ended" })

  /** The pre-subscription that a subscription attaches to, if there is one, and it fits. */
  const joined = <E, R>(topic: AnyTopic, group: string, options: Internal.Options<E, R>) =>
    Effect.gen(function*() {
      const former = presubscribed.get(Checks.keyOf(topic.name, group))
      if (former === undefined) return undefined
      yield* Deferred.await(former.standing)
      if (former.isClosing) return yield* gone(topic, group)
      const issues = Checks.differences(former, topic, options)
      if (issues.length > 0) return yield* new InvalidConfiguration({ topic: topic.name, issues })
      return former
    })

  const presubscribe = (topic: AnyTopic, options: PresubscriptionOptions = {}) =>
    Effect.gen(function*() {
      if (isClosing) return yield* new BusClosed({ topic: topic.name })
      yield* provided.check(topic.name)
      const { startFrom = "earliest", withoutHandler = "hold" } = options
      const issues = Checks.issuesOf({ group: options.group })
      const startIssue = startIssueOf(startFrom, transport)
      if (startIssue !== undefined) issues.push(startIssue)
      if (issues.length > 0) return yield* new InvalidConfiguration({ topic: topic.name, issues })
      const group = options.group ?? config.group
      const key = Checks.keyOf(topic.name, group)
      if (presubscribed.has(key) || registry.has(topic.name, group)) {
        return yield* new AlreadySubscribed({ topic: topic.name, group })
      }
      const former = new Presubscribed({
        transport,
        config,
        warn: (text) => log(Logging.warning(text)),
        topic: topic.spec,
        group,
        semantics: options.semantics ?? Checks.semanticsOf(topic),
        startFrom,
        withoutHandler,
        closeAttached: Effect.suspend(() => registry.find(topic.name, group)?.close ?? Effect.void),
        onClosed: Effect.sync(() => presubscribed.delete(key))
      })
      return yield* Effect.acquireUseRelease(
        Effect.sync(() => presubscribed.set(key, former)),
        () =>
          Effect.filterOrFail(
            begin(topic.name, former.join),
            () => !isClosing,
            () => new BusClosed({ topic: topic.name })
          ),
        // A pre-subscription keeps its place until it is closed. One that could not be made gives it back.
        (_, exit) =>
          Effect.zipRight(
            Exit.isSuccess(exit)
              ? Effect.void
              : Effect.zipRight(former.close, Effect.sync(() => presubscribed.delete(key))),
            // Subscriptions that wait for it are not interrupted with it.
            Exit.isInterrupted(exit)
              ? Deferred.fail(former.standing, gone(topic, group))
              : Deferred.done(former.standing, Exit.asVoid(exit))
          )
      )
    })

  const replay = <E, R>(topic: AnyTopic, handler: AnyHandler<E, R>, options: Replay.Options = {}) =>
    Effect.suspend(() => {
      if (isClosing) return new BusClosed({ topic: topic.name })
      const issues = [...strategyIssues, ...Checks.issuesOf(options), ...Checks.replayIssuesOf(options)]
      if (issues.length > 0) return new InvalidConfiguration({ topic: topic.name, issues })
      const running = Effect.acquireUseRelease(
        Effect.sync(() => replays++),
        () =>
          Effect.scoped(unlessClosing(
            topic.name,
            InternalReplay.run(
              { transport, mailboxes, observer, config },
              topic.spec,
              handlerOf(topic, codec, handler, options),
              options
            )
          )),
        () =>
          Effect.sync(() => {
            replays--
            noReplays.changed()
          })
      )
      return Effect.zipRight(provided.check(topic.name), running)
    })

  const closeAll = Effect.suspend(() =>
    Effect.forEach(registry.all(), ({ close }) => close, { concurrency: "unbounded", discard: true })
  )

  // Slots that subscriptions share end after all subscriptions.
  yield* Effect.addFinalizer(() => mailboxes.shutdown)
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      return Effect.zipRight(
        closing.open,
        Effect.all([
          Effect.forEach(presubscribed.values(), ({ close }) => close, { concurrency: "unbounded" }),
          closeAll,
          // One may have come to stand in the last moment.
          Effect.zipRight(noneStarts.wait, closeAll),
          noReplays.wait
        ], { concurrency: "unbounded", discard: true })
      ).pipe(Effect.ensuring(Effect.sync(() => isClosed = true)))
    })
  )

  return EventBus.of({
    publish: publish as Service["publish"],
    publishAll: publishAll as Service["publishAll"],
    encode: encode as Service["encode"],
    circuits: circuits.service,
    publishing: stopped.control,
    subscribe: subscribe as unknown as Service["subscribe"],
    presubscribe: presubscribe as Service["presubscribe"],
    replay: replay as Service["replay"],
    dispatch,
    subscriptions: Effect.sync(() => registry.all()),
    find: (topic, group) => Option.fromNullable(registry.find(topic, group ?? config.group))
  })
})

/**
 * A bus on the provided transport. It uses the `EventBusConfig`, `EnvelopeCodec`, `Strategy` and `Observer` that are provided to this layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<EventBus, never, Transport> = Layer.scoped(EventBus, make).pipe(
  Layer.provide(Supervisor.layer())
)

/**
 * A bus under a supervisor of your choice. `Supervisor.layer({ restart })` is the one that `layer` has, with another schedule of restarts.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSupervised: Layer.Layer<EventBus, never, Transport | Supervisor.Supervisor> = Layer.scoped(
  EventBus,
  make
)

const handlerOf = <E, R>(
  topic: AnyTopic,
  codec: EnvelopeCodec.Service,
  handler: AnyHandler<E, R>,
  options: CommonOptions & Pick<ReadingOptions<Semantics, E, R>, "onTombstone"> & { readonly semantics?: Semantics }
): Handler.Handler<E> => Handler.make(Incoming.make(topic, codec, options), handler, options, options.onTombstone)
