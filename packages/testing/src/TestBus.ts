/**
 * A bus for tests of your own handlers. It is the real bus on the memory transport, and remembers what happened. Under a
 * `TestClock` (every `it.effect` has one) retries, restarts and timeouts take no time: a function that waits for an outcome moves
 * the clock on to the next timer.
 *
 * @since 0.1.0
 */
import {
  type Delivery,
  EnvelopeCodec,
  EventBus,
  EventBusConfig,
  EventBusError,
  type Failure,
  type MemoryBroker,
  MemoryTransport,
  Observer,
  Strategy,
  type Topic,
  Transport
} from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Advance from "./internal/advance.js"
import * as Describe from "./internal/describe.js"
import { type Entry, type Group, Ledger } from "./internal/ledger.js"
import * as Observed from "./internal/observed.js"
import {
  type DeadLettered,
  ExpectationFailed,
  type Failed,
  type GivenUp,
  type Handled,
  NotSettled,
  type Outcome,
  type PublishedEvent,
  type PublishedMessage
} from "./Outcome.js"

/**
 * How long a function waits.
 *
 * @since 0.1.0
 * @category options
 */
export interface WaitOptions {
  /**
   * How long the outcome may take, by the clock of the bus. Default: 1 hour under a `TestClock`, which takes no real time; else 5
   * seconds.
   */
  readonly within?: Duration.DurationInput | undefined
}

/**
 * Which group is meant, and how long a function waits.
 *
 * @since 0.1.0
 * @category options
 */
export interface ExpectOptions extends WaitOptions {
  /** The group whose handling is meant. Needed only if several groups have subscribed to the topic. */
  readonly group?: string | undefined
}

/**
 * Settings of the bus under test, and of its broker.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Settings of the bus. Default: the settings that are provided to the layer, else their defaults. */
  readonly config?: EventBusConfig.Options | undefined
  /** Settings of the broker in memory, for instance its number of partitions. */
  readonly broker?: MemoryBroker.Options | undefined
  /** Which slot handles an aggregate's messages. Default: the strategy that is provided to the layer, else an actor per aggregate. */
  readonly strategy?: Strategy.Service | undefined
}

/**
 * The memory of a bus under test. The functions of this module read it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly settled: (options?: WaitOptions) => Effect.Effect<void, NotSettled>
  readonly expectHandled: (receipt: Transport.Receipt, options?: ExpectOptions) => Expected<Outcome>
  readonly expectDeadLettered: (receipt: Transport.Receipt, options?: ExpectOptions) => Expected<DeadLettered>
  readonly expectDropped: (receipt: Transport.Receipt, options?: ExpectOptions) => Expected<GivenUp>
  readonly expectHeld: (receipt: Transport.Receipt, options?: ExpectOptions) => Expected<GivenUp>
  readonly expectFailed: (receipt: Transport.Receipt, options?: ExpectOptions) => Expected<Failed>
  readonly published: {
    <A, I>(topic: Topic.EnvelopeTopic<A, I>): Effect.Effect<ReadonlyArray<PublishedEvent<A>>, EventBusError.DecodeError>
    (topic: Topic.PlainTopic): Effect.Effect<ReadonlyArray<PublishedMessage>>
  }
  readonly handled: {
    <A, I>(
      topic: Topic.EnvelopeTopic<A, I>,
      options?: { readonly group?: string | undefined }
    ): Effect.Effect<ReadonlyArray<Handled<A, Delivery.EnvelopeDelivery>>>
    (
      topic: Topic.PlainTopic,
      options?: { readonly group?: string | undefined }
    ): Effect.Effect<ReadonlyArray<Handled<Uint8Array, Delivery.Delivery>>>
  }
}

type Expected<A> = Effect.Effect<A, ExpectationFailed>

/**
 * The memory of the bus under test. `layer` provides it.
 *
 * @since 0.1.0
 * @category tags
 */
export class TestBus extends Context.Tag("@effect-eventbus/testing/TestBus")<TestBus, Service>() {}

type Expectation = "handled" | "dead-lettered" | "parked" | "dropped" | "held" | "failed"

const become = (entry: Entry): Expectation | undefined => {
  if (entry.isHeld) return "held"
  const { outcome } = entry
  return outcome === "skipped" || outcome === "unfinished" || outcome === "lost" ? undefined : outcome
}

const make = (ledger: Ledger) =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const codec = yield* EnvelopeCodec.EnvelopeCodec
    const named = { codec, ledger }

    const expect = (expected: Expectation) => (receipt: Transport.Receipt, options?: ExpectOptions) =>
      Effect.gen(function*() {
        const limit = Advance.limitOf(clock, options?.within)
        const groupOf = (): Group | undefined => {
          const groups = ledger.groupsOf(receipt.topic)
          return groups.length === 1 && options?.group === undefined
            ? groups[0]
            : groups.find((group) => group.name === options?.group)
        }
        const entryOf = () => groupOf()?.find(receipt.partition, receipt.offset)
        yield* Advance.until(clock, ledger, limit, () => {
          const entry = entryOf()
          return entry !== undefined && (entry.isFinal || become(entry) === expected)
        })
        const entry = entryOf()
        if (entry !== undefined && become(entry) === expected) return { entry, outcome: outcomeOf(groupOf()!, entry) }
        const several = ledger.groupsOf(receipt.topic).map(({ name }) => `"${name}"`)
        const what = several.length > 1 && options?.group === undefined
          ? `several groups have subscribed, so one has to be named: ${several.join(", ")}`
          : several.length > 0 && groupOf() === undefined
          ? `group "${options?.group}" has not subscribed to "${receipt.topic}", only ${several.join(", ")}`
          : Describe.state(ledger, groupOf(), receipt)
        const cause = entry === undefined ? undefined : Describe.lastCause(entry)
        return yield* new ExpectationFailed({
          receipt,
          message: `Expected ${Describe.message(named, receipt)} to be ${expected} within ${
            Duration.format(limit)
          }, but ${what}`,
          ...(cause === undefined ? {} : { cause: Cause.squash(cause) })
        })
      })

    const givenUp = (expected: Expectation) => (receipt: Transport.Receipt, options?: ExpectOptions) =>
      Effect.map(expect(expected)(receipt, options), ({ entry, outcome }): GivenUp => ({
        ...outcome,
        failure: entry.failure as Failure.EnvelopeFailure
      }))

    const messages = (topic: string): ReadonlyArray<PublishedMessage> =>
      ledger.written.flatMap(({ message, receipt }) => receipt?.topic === topic ? [messageOf(message, receipt)] : [])

    return TestBus.of({
      settled: (options) => waitSettled(named, clock, options),
      expectHandled: (receipt, options) => Effect.map(expect("handled")(receipt, options), ({ outcome }) => outcome),
      expectDropped: givenUp("dropped"),
      expectHeld: givenUp("held"),
      expectDeadLettered: (receipt, options) =>
        Effect.map(givenUp("dead-lettered")(receipt, options), (one): DeadLettered => {
          const { policy, position } = one.failure
          const letters = messages(policy._tag === "DeadLetter" ? policy.topic : "")
          return { ...one, letter: letters.find((letter) => isLetterOf(letter, position, one.group))! }
        }),
      expectFailed: (receipt, options) =>
        Effect.map(expect("failed")(receipt, options), ({ entry, outcome }): Failed => ({
          ...outcome,
          failure: entry.failure as Failure.PlainFailure
        })),
      published: ((topic: Topic.EnvelopeTopic<unknown> | Topic.PlainTopic) =>
        Effect.suspend(() =>
          topic.kind === "plain"
            ? Effect.succeed(messages(topic.name))
            : Effect.forEach(messages(topic.name), (message) => decoded(codec, topic, message))
        )) as Service["published"],
      handled: ((topic: { readonly name: string }, options?: { readonly group?: string | undefined }) =>
        Effect.sync(() =>
          ledger.groupsOf(topic.name)
            .filter(({ name }) => options?.group === undefined || options.group === name)
            .flatMap(({ handled }) =>
              handled
            )
        )) as unknown as Service["handled"]
    })
  })

/**
 * A bus in memory that remembers what happens on it. It provides the bus for the handlers under test, and the transport.
 * Give each test a layer of its own, as `Effect.provide` does: the bus remembers everything until the layer ends.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options = {}
): Layer.Layer<TestBus | EventBus.EventBus | Transport.Transport, EventBusError.InvalidConfiguration> => {
  const { broker, config, strategy } = options
  return layerTransport.pipe(
    Layer.provide(MemoryTransport.layer(broker)),
    Layer.provide(strategy === undefined ? Layer.empty : Strategy.layer(strategy)),
    Layer.provide(config === undefined ? Layer.empty : EventBusConfig.layer(config))
  )
}

/**
 * The same on a transport of your choice: one that injects faults, or a broker.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTransport: Layer.Layer<
  TestBus | EventBus.EventBus | Transport.Transport,
  never,
  Transport.Transport
> = Layer.unwrapEffect(Effect.map(Effect.clock, (clock) => {
  const ledger = new Ledger(clock)
  const transport = Layer.effect(
    Transport.Transport,
    Effect.map(Transport.Transport, (inner) => Observed.transport(inner, ledger))
  )
  const bus = Layer.scoped(
    EventBus.EventBus,
    Effect.flatMap(EventBus.EventBus, (inner) => Observed.bus(inner, ledger))
  ).pipe(Layer.provide(Layer.fresh(EventBus.layer)), Layer.provide(Observer.layer(ledger)))
  return Layer.merge(bus, Layer.effect(TestBus, make(ledger))).pipe(Layer.provideMerge(transport))
}))

/**
 * `EventBus.publish`, without asking for the bus first. Give the receipt to an expectation.
 *
 * @since 0.1.0
 * @category publishing
 */
export const publish: {
  <A, I>(
    topic: Topic.EnvelopeTopic<A, I>,
    message: Topic.EnvelopeMessage<A>
  ): Effect.Effect<Transport.Receipt, EventBusError.PublishError, EventBus.EventBus>
  (
    topic: Topic.PlainTopic,
    message: Topic.PlainMessage
  ): Effect.Effect<Transport.Receipt, EventBusError.PublishError, EventBus.EventBus>
} = ((topic: never, message: never) => Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(topic, message))) as never

/**
 * `EventBus.publishAll`, without asking for the bus first: a receipt for each message.
 *
 * @since 0.1.0
 * @category publishing
 */
export const publishAll: {
  <A, I>(
    topic: Topic.EnvelopeTopic<A, I>,
    messages: ReadonlyArray<Topic.EnvelopeMessage<A>>
  ): Effect.Effect<ReadonlyArray<Transport.Receipt>, EventBus.PublishAllFailed, EventBus.EventBus>
  (
    topic: Topic.PlainTopic,
    messages: ReadonlyArray<Topic.PlainMessage>
  ): Effect.Effect<ReadonlyArray<Transport.Receipt>, EventBus.PublishAllFailed, EventBus.EventBus>
} =
  ((topic: never, messages: never) =>
    Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(topic, messages))) as never

/**
 * Waits until every published message is finished and settled by all groups that have subscribed to its topic. This includes messages
 * that handlers published meanwhile. It does not wait for publishing that a test has scheduled for later.
 *
 * @since 0.1.0
 * @category waiting
 */
export const settled = (options?: WaitOptions): Effect.Effect<void, NotSettled, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.settled(options))

/**
 * Waits until a message is handled, and tells how. Fails if the message ends in another way.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectHandled = (
  receipt: Transport.Receipt,
  options?: ExpectOptions
): Effect.Effect<Outcome, ExpectationFailed, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.expectHandled(receipt, options))

/**
 * Waits until a message is dead-lettered, and tells why, with the dead letter. Fails if the message ends in another way.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectDeadLettered = (
  receipt: Transport.Receipt,
  options?: ExpectOptions
): Effect.Effect<DeadLettered, ExpectationFailed, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.expectDeadLettered(receipt, options))

/**
 * Waits until a message is dropped by its policy, and tells why. Fails if the message ends in another way.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectDropped = (
  receipt: Transport.Receipt,
  options?: ExpectOptions
): Effect.Effect<GivenUp, ExpectationFailed, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.expectDropped(receipt, options))

/**
 * Waits until a message is held, and tells why. Fails if the message ends in another way.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectHeld = (
  receipt: Transport.Receipt,
  options?: ExpectOptions
): Effect.Effect<GivenUp, ExpectationFailed, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.expectHeld(receipt, options))

/**
 * Waits until the handler of an at-most-once message has failed, and tells why. Fails if the message ends in another way.
 *
 * @since 0.1.0
 * @category expectations
 */
export const expectFailed = (
  receipt: Transport.Receipt,
  options?: ExpectOptions
): Effect.Effect<Failed, ExpectationFailed, TestBus> =>
  Effect.flatMap(TestBus, (bus) => bus.expectFailed(receipt, options))

/**
 * The messages that were published to a topic until now, in the order of publishing: by the test, by handlers, or as dead letters. Events
 * are read by the topic's schema. For bytes that may not fit it, give `Topic.plain` with the same name. Wait with `settled` or an
 * expectation before.
 *
 * @since 0.1.0
 * @category reading
 */
export const published: {
  <A, I>(
    topic: Topic.EnvelopeTopic<A, I>
  ): Effect.Effect<ReadonlyArray<PublishedEvent<A>>, EventBusError.DecodeError, TestBus>
  (topic: Topic.PlainTopic): Effect.Effect<ReadonlyArray<PublishedMessage>, never, TestBus>
} = ((topic: never) => Effect.flatMap(TestBus, (bus) => bus.published(topic))) as never

/**
 * The messages of a topic whose handlers have succeeded until now, in the order of handling: for all groups, or for the one that is
 * named. A message that was handled twice is in it twice.
 *
 * @since 0.1.0
 * @category reading
 */
export const handled: {
  <A, I>(
    topic: Topic.EnvelopeTopic<A, I>,
    options?: { readonly group?: string | undefined }
  ): Effect.Effect<ReadonlyArray<Handled<A, Delivery.EnvelopeDelivery>>, never, TestBus>
  (
    topic: Topic.PlainTopic,
    options?: { readonly group?: string | undefined }
  ): Effect.Effect<ReadonlyArray<Handled<Uint8Array, Delivery.Delivery>>, never, TestBus>
} = ((topic: never, options?: never) => Effect.flatMap(TestBus, (bus) => bus.handled(topic, options))) as never

interface Named {
  readonly ledger: Ledger
  readonly codec: EnvelopeCodec.Service
}

const waitSettled = (named: Named, clock: Clock.Clock, options?: WaitOptions): Effect.Effect<void, NotSettled> =>
  Effect.gen(function*() {
    const { ledger } = named
    const limit = Advance.limitOf(clock, options?.within)
    const unfinished = () =>
      ledger.all().filter(({ active }) => active > 0).flatMap((group) =>
        ledger.unfinished(group).map((entry) => ({ group, entry }))
      )
    if (
      yield* Advance.until(clock, ledger, limit, () => ledger.publishing === 0 && unfinished().length === 0)
    ) return
    const left = unfinished()
    const lines = left.slice(0, 10).map(({ entry: { offset, partition }, group }) => {
      const at = { topic: group.topic, partition, offset }
      return `\n- ${Describe.message(named, at)}: ${Describe.state(ledger, group, at)}`
    })
    return yield* new NotSettled({
      unfinished: left.length,
      message: `${left.length} of the messages did not come to an end within ${Duration.format(limit)}:${
        lines.join("")
      }${left.length > lines.length ? `\n- and ${left.length - lines.length} more` : ""}`
    })
  })

const outcomeOf = ({ name }: Group, { attempts, causes, startedAt }: Entry): Outcome => ({
  group: name,
  attempts,
  causes: [...causes],
  startedAt: [...startedAt]
})

const messageOf = (message: Transport.OutgoingMessage, receipt: Transport.Receipt): PublishedMessage => ({
  ...receipt,
  aggregateId: message.aggregateId,
  key: message.key,
  headers: message.headers,
  value: message.value
})

const isLetterOf = ({ headers }: PublishedMessage, position: EventBusError.Position, group: string): boolean =>
  headers["X-Dead-Letter-Topic"] === position.topic &&
  headers["X-Dead-Letter-Partition"] === String(position.partition) &&
  headers["X-Dead-Letter-Offset"] === String(position.offset) && headers["X-Dead-Letter-Group"] === group

const decoded = <A, I>(
  codec: EnvelopeCodec.Service,
  topic: Topic.EnvelopeTopic<A, I>,
  message: PublishedMessage
): Effect.Effect<PublishedEvent<A>, EventBusError.DecodeError> =>
  Effect.gen(function*() {
    const envelope = yield* Either.mapLeft(codec.decode(message.value, message.headers), ({ error }) => error)
    const event = yield* Either.mapLeft(
      Schema.decodeUnknownEither(topic.schema)(envelope.payload),
      (cause) =>
        new EventBusError.DecodeError({
          reason: "Payload",
          issue: ParseResult.TreeFormatter.formatErrorSync(cause),
          position: { topic: message.topic, partition: message.partition, offset: message.offset },
          cause
        })
    )
    return { ...message, envelope, event }
  })
