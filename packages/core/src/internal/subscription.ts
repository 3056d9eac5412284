import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EventBusConfig from "../EventBusConfig.js"
import { InvalidConfiguration } from "../EventBusError.js"
import type { SubscribeError } from "../EventBusError.js"
import type { EnvelopeFailure, PlainFailure } from "../Failure.js"
import * as FailurePolicy from "../FailurePolicy.js"
import type * as Observer from "../Observer.js"
import * as RateLimit from "../RateLimit.js"
import type * as Recovery from "../Recovery.js"
import type { CloseReport, OptionsFor, Subscription } from "../Subscription.js"
import type * as Transport from "../Transport.js"
import type { AddressBook } from "./addressBook.js"
import * as AtLeastOnce from "./atLeastOnce.js"
import * as AtMostOnce from "./atMostOnce.js"
import type { Handler } from "./attempt.js"
import { Breaker } from "./circuit/breaker.js"
import type { Circuits } from "./circuit/circuits.js"
import type { Member } from "./circuit/member.js"
import * as Closing from "./closing.js"
import * as Control from "./control/control.js"
import { Counters } from "./counters.js"
import * as DeadLetter from "./deadLetter.js"
import { describeCause, nameOf } from "./describeCause.js"
import type { Behaviour, Subscriber } from "./flight.js"
import { Intake, type IntakeSettings } from "./intake.js"
import { Lasting } from "./lasting.js"
import * as Logging from "./logging.js"
import type { Mailboxes } from "./mailboxes.js"
import { OtherPartitions } from "./otherPartitions.js"
import * as Parking from "./parking/parking.js"
import type { Settings as ParkingSettings } from "./parking/settings.js"
import * as Protection from "./poison/protection.js"
import { Quota } from "./quota.js"
import { Ration } from "./ration.js"
import { RecoveryMode } from "./recovery.js"
import type { AnySubscription } from "./registry.js"
import { SettleFirst } from "./settleFirst.js"
import { SettleTurns } from "./settleTurns.js"
import { sound } from "./soundStore.js"
import { startIssueOf } from "./startIssue.js"
import { afterEvents, isOfEventLoop } from "./turn.js"
import * as UserCode from "./userCode.js"

/** How many failures wait for a slow reader of `failures`. Beyond this the oldest are left out. */
const failuresCapacity = 1_024

/** How many changes of the recovery mode wait for a slow reader of `recoveryChanges`. */
const changesCapacity = 256

/** @internal */
export interface Environment {
  readonly transport: Transport.Service
  readonly mailboxes: Mailboxes
  readonly observer: Observer.Service
  readonly config: EventBusConfig.Service
  readonly circuits: Circuits
  /** Called when the subscription stands. */
  readonly onOpened: (subscription: AnySubscription) => void
  /** Runs when the subscription has been closed. */
  readonly onClosed: Effect.Effect<void>
}

/** @internal */
export type Options<E, R> =
  | OptionsFor<"envelope", "at-least-once", E, R> & { readonly semantics: "at-least-once" }
  | OptionsFor<"envelope", "at-most-once", E, R> & { readonly semantics: "at-most-once" }

/** The failures that a subscription reports. */
type Reports<E> = PubSub.PubSub<EnvelopeFailure<E> | PlainFailure<E>>

/** How the messages of the subscription are handled. */
const behaviourOf = <E, R>(
  { config, observer, transport }: Environment,
  handler: Handler<E>,
  options: Options<E, R>,
  failures: Reports<E>,
  lasting: Lasting,
  ration: Ration,
  breaker: () => Breaker
): Behaviour => {
  const report = reporter(failures, observer, ration)
  return options.semantics === "at-least-once"
    ? AtLeastOnce.behaviour<E>({
      handler,
      onExhausted: options.onExhausted,
      onUnknownType: options.onUnknownType,
      onError: options.onError ?? (() => FailurePolicy.retry),
      retry: options.retry ?? backoff(config, config.retryTimes),
      holdInterval: config.holdInterval,
      say: (line) => ration.line(line),
      get breaker() {
        return breaker()
      },
      deadLetter: DeadLetter.publisher(transport, config.publishTimeout, backoff(config), lasting, ration),
      report: report(options.onFailure)
    })
    : AtMostOnce.behaviour<E>({ handler, onUnknownType: options.onUnknownType, report: report(options.onFailure) })
}

/** The circuits that the subscription has from its beginning, and its guard. */
const breakerOf = <E, R>(
  { circuits, config }: Environment,
  subscriber: Subscriber,
  book: Member["book"],
  options: Options<E, R>,
  goOn: () => void
): Breaker => {
  const isKept = options.semantics === "at-least-once"
  const known = isKept ? FailurePolicy.circuitsOf(options.onError) : []
  return new Breaker(
    circuits,
    { name: subscriber.name, book, canProbe: isKept, goOn, isClosing: false },
    [...known, ...options.circuits ?? []],
    config,
    isKept ? options.guard : "off",
    subscriber.counters,
    subscriber.time
  )
}

/** What the lanes of the subscription share: the bounds, and the mailboxes. */
const intakeOf = <E, R>(
  { config, mailboxes }: Environment,
  subscriber: Subscriber,
  handler: Handler<E>,
  options: Options<E, R>,
  lasting: Lasting,
  scheduler: Scheduler.Scheduler,
  fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>,
  sentry: IntakeSettings["sentry"],
  parkingOf: (book: AddressBook) => Parking.Parking | undefined
): IntakeSettings => {
  const { name, observer } = subscriber
  const told = (bound: "bytes" | "settledAhead" | "concurrency") => (isReached: boolean) =>
    observer.event?.({ _tag: "Bound", bound, subscription: name, isReached })
  const book = mailboxes.open(subscriber)
  const settledAhead = new Quota(config.maxSettledAhead, told("settledAhead"))
  const turns = new SettleTurns()
  const withheld: Array<() => void> = []
  return {
    subscriber,
    mailboxes: book,
    incoming: handler.incoming,
    bytes: new Quota(config.maxBytes, told("bytes")),
    concurrency: options.concurrency === undefined ? undefined : new Quota(options.concurrency, told("concurrency")),
    rate: options.rate?.[RateLimit.TypeId],
    maxUnfinished: config.maxUnfinished,
    // At-most-once messages wait for their settlement anyway. And with a scheduler of the user's own, the event loop's turns mean nothing.
    nextTurn: options.semantics === "at-least-once" && isOfEventLoop(scheduler)
      ? afterEvents
      : undefined,
    isTurnAwaited: () => mailboxes.supervisor.turns.isAwaited,
    say: (text) => void fork(Logging.error(text)),
    sentry,
    parking: parkingOf(book),
    settleFirst: options.semantics === "at-least-once"
      ? undefined
      : (intake, assignment) =>
        new SettleFirst(intake, assignment, { mailboxes: book, settledAhead, turns, withheld, lasting, fork })
  }
}

/**
 * Puts a subscription together: lanes that the transport fills, mailboxes, and the behaviour that the semantics asks for. It runs
 * until it is closed, or its scope ends.
 *
 * @internal
 */
export const make = <E, R>(
  environment: Environment,
  topic: Transport.TopicSpec,
  handler: Handler<E>,
  options: Options<E, R>
): Effect.Effect<Subscription<EnvelopeFailure<E> | PlainFailure<E>>, SubscribeError, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { config, mailboxes, observer, transport } = environment
      const group = options.group ?? config.group
      const name = `${topic.name}/${group}`
      const startIssue = startIssueOf(options.startFrom, transport)
      if (startIssue !== undefined) {
        return yield* new InvalidConfiguration({ topic: topic.name, issues: [startIssue] })
      }
      const counters = new Counters()
      const lasting = DeadLetter.lasting()
      const settling = new Lasting("Messages can't be settled, so their handlers don't begin", "commit")
      const broken: Array<Transport.Problem> = []
      const failures: Reports<E> = yield* PubSub.sliding<EnvelopeFailure<E> | PlainFailure<E>>(failuresCapacity)
      // The slots and the transport's subscription have a scope each, because closing needs an order.
      const slots = yield* Scope.make()
      const source = yield* Scope.make()
      const run = Runtime.runFork(yield* Logging.unbreakable(Effect.runtime<never>()))
      const fork = (effect: Effect.Effect<void>) => run(Effect.interruptible(effect), { scope: slots })
      const notes = { topic: topic.name, group }
      const ration = new Ration(
        (left) =>
          Logging.error(`${left} more lines of subscription ${name} on messages that failed were left out`, {
            ...notes,
            left
          }),
        fork
      )
      const { turns } = mailboxes.supervisor
      const subscriber: Subscriber = {
        name,
        group,
        semantics: options.semantics,
        behaviour: behaviourOf(environment, handler, options, failures, lasting, ration, () => breaker),
        home: yield* mailboxes.supervisor.home<R>(name),
        counters,
        observer,
        time: () => turns.time()
      }
      const weighing = new Lasting("The store of what is suspected can't be read or written, so messages wait")
      const protection =
        options.semantics === "at-least-once" && options.poison !== undefined && options.poison !== "off"
          ? yield* restore(
            Protection.make({ topic, transport, options: options.poison, lasting: weighing, fork }, group)
          )
            .pipe(
              Scope.extend(slots),
              Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(slots, exit) : Effect.void)
            )
          : undefined
      const policy = parkPolicyOf(options)
      const store = policy === undefined
        ? undefined
        : yield* restore(Logging.unbreakable(transport.store!({ topic, group, name: "parking" }))).pipe(
          Scope.extend(slots),
          Effect.onError((cause) => Scope.close(slots, Exit.failCause(cause)))
        )
      const settings = intakeOf(
        environment,
        subscriber,
        handler,
        options,
        settling,
        yield* FiberRef.get(FiberRef.currentScheduler),
        fork,
        protection?.(subscriber),
        (book) =>
          policy && store &&
          new Parking.Parking(parkingSettings(policy, sound(store, topic.name), book, subscriber, config, fork))
      )
      const otherPartitions = new OtherPartitions(
        subscriber,
        (effect) => void run(Effect.interruptible(effect), { scope: slots }),
        Logging.warning
      )
      settings.mailboxes.onOtherPartition = (mailbox, flight) => otherPartitions.found(mailbox, flight)
      yield* Scope.addFinalizer(slots, settings.mailboxes.shutdown)
      const lanes = new Set<Intake>()
      const goOn = () => {
        for (const lane of Array.from(lanes)) lane.goOn()
      }
      const breaker = breakerOf(environment, subscriber, settings.mailboxes, options, goOn)
      yield* Scope.addFinalizer(slots, Effect.sync(() => breaker.closed()))
      const recovery = new RecoveryMode({
        name,
        options: options.recovery,
        observer,
        mailboxes: settings.mailboxes,
        lanes,
        clocks: turns,
        scope: slots,
        fork: (effect) => void run(Effect.interruptible(effect), { scope: slots })
      }, yield* PubSub.sliding<Recovery.Change>(changesCapacity))
      yield* recovery.start
      const consumer: Transport.Consumer = {
        assigned: (assignment) => {
          const lane = new Intake(assignment, settings)
          lanes.add(lane)
          recovery.joined(lane)
          const ended = Effect.sync(() => {
            lanes.delete(lane)
            recovery.left(lane)
          })
          return {
            offer: (messages) => lane.offer(messages),
            close: (options) => Effect.ensuring(lane.close(options), ended)
          }
        }
      }
      const subscribed = yield* restore(Logging.unbreakable(transport.subscribe({
        topic,
        group,
        semantics: options.semantics,
        startFrom: options.startFrom ?? "earliest",
        maxAboveWatermark: config.maxAboveWatermark,
        maxUnfinished: config.maxUnfinished,
        drainDeadline: config.drainDeadline
      }, consumer))).pipe(
        Scope.extend(source),
        Effect.onExit((exit) =>
          Exit.isFailure(exit) ? Effect.zipRight(Scope.close(source, exit), Scope.close(slots, exit)) : Effect.void
        )
      )

      yield* recovery.stands(subscribed.status)
      if (subscribed.failed !== undefined) {
        const breaking = Effect.catchAllCause(subscribed.failed, (cause) => {
          const error = Option.map(Cause.failureOption(cause), ({ message }) => message)
          const why = Option.getOrElse(error, () => describeCause(cause))
          if (Cause.isInterruptedOnly(cause)) return Effect.void
          const message = `Subscription ${name} has broken and handles nothing more: ${why}`
          return Effect.flatMap(Clock.currentTimeMillis, (since) => {
            broken.push({ message, since, kind: "broken" })
            return Logging.error(message, notes)
          })
        })
        fork(breaking)
      }
      const closeOnce = Effect.gen(function*() {
        breaker.closing()
        yield* subscribed.stop
        const reports = yield* Effect.forEach(
          Array.from(lanes),
          (lane) => lane.close({ deadline: config.closeDeadline, finishQueued: true, goesOn: true }),
          { concurrency: "unbounded" }
        )
        return reports.reduce(
          (sum, one) => ({ unfinished: sum.unfinished + one.unfinished, lost: sum.lost + one.lost }),
          { unfinished: 0, lost: 0 }
        )
      }).pipe(
        // These run also if the transport broke.
        Effect.ensuring(Effect.suspend(() => Scope.close(source, Exit.void))),
        Effect.ensuring(Effect.suspend(() => Scope.close(slots, Exit.void))),
        Effect.ensuring(PubSub.shutdown(failures)),
        Effect.ensuring(recovery.close),
        Effect.ensuring(Effect.suspend(() => {
          const stuck = Array.from(lanes).filter(({ isStuck }) => isStuck)
          // Nothing of the topic and group begins again in this bus before the handlers that go on have ended.
          return stuck.length === 0
            ? environment.onClosed
            : Effect.forkDaemon(
              Effect.zipRight(Effect.forEach(stuck, ({ freed }) => freed, { discard: true }), environment.onClosed)
            )
        })),
        Effect.tap(({ lost, unfinished }) =>
          unfinished === 0 && lost === 0 ? Effect.void : Logging.warning(
            `Subscription ${name} closed with ${unfinished} unfinished messages, which come again, and ${lost} lost ones.`,
            { ...notes, unfinished, lost }
          )
        )
      )

      const close = Closing.once<CloseReport>(Logging.unbreakable(closeOnce))
      yield* Effect.addFinalizer(() => close)

      const subscription: Subscription<EnvelopeFailure<E> | PlainFailure<E>> = {
        topic: topic.name,
        group,
        failures: Stream.fromPubSub(failures),
        // What the transport can't know: letters and settlements are tried again by this subscription.
        status: Effect.map(subscribed.status ?? Effect.succeed(undefined), (status) =>
          status &&
          {
            ...status,
            problems: [
              ...status.problems,
              ...lasting.problems,
              ...settling.problems,
              ...breaker.problems,
              ...weighing.problems,
              ...settings.parking?.problems ?? [],
              ...broken
            ]
          }),
        isInRecoveryMode: Effect.sync(() => recovery.isOn),
        setRecoveryMode: recovery.set,
        recoveryChanges: Stream.fromPubSub(recovery.changes),
        stats: Effect.sync(() => ({
          ...counters,
          actors: settings.mailboxes.live(),
          endedActors: settings.mailboxes.endedActors,
          fullestMailbox: settings.mailboxes.fullest(),
          parkedAggregates: settings.parking?.aggregates ?? 0,
          parkedLetters: settings.parking?.letters ?? 0,
          pausedAggregates: settings.mailboxes.paused?.count ?? 0,
          pausedSince: settings.mailboxes.paused?.since
        })),
        control: Control.make({
          topic,
          transport,
          subscriber,
          book: settings.mailboxes,
          parking: settings.parking,
          onExhausted: options.semantics === "at-least-once" ? options.onExhausted : undefined,
          goOn,
          letGo: () => breaker.goOn(),
          fork: (effect) => run(Effect.interruptible(effect), { scope: slots })
        }),
        close
      }
      environment.onOpened(subscription)
      return subscription
    })
  )

/** The policy by which messages are parked. Undefined: none does that. */
const parkPolicyOf = <E, R>(options: Options<E, R>): FailurePolicy.Park | undefined => {
  if (options.semantics !== "at-least-once") return undefined
  const { onExhausted, onUnknownType, parking } = options
  return parking ?? [onExhausted, onUnknownType].find((policy) => policy?._tag === "Park")
}

const parkingSettings = (
  policy: FailurePolicy.Park,
  store: Transport.Store,
  book: AddressBook,
  { counters, name, observer }: Subscriber,
  config: EventBusConfig.Service,
  fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
): ParkingSettings => ({
  policy,
  store,
  book,
  counters,
  timeout: config.publishTimeout,
  holdInterval: config.holdInterval,
  schedule: backoff(config),
  writing: Parking.writing(),
  reading: Parking.reading(),
  wanted: new Map(),
  fork,
  tell: (event) => observer.event?.({ ...event, subscription: name }),
  discarded: (gap) => {
    counters.discarded++
    const { onDiscarded } = policy
    return onDiscarded === undefined
      ? Effect.void
      : Effect.forkScoped(Effect.delay(Logging.warning(lateDiscard(name, gap)), "10 seconds")).pipe(
        Effect.zipRight(Effect.suspend(() => UserCode.call(onDiscarded, gap, undefined))),
        Effect.scoped,
        Effect.catchAllCause((cause) => Logging.error(`onDiscarded died: ${describeCause(cause)}`)),
        Effect.asVoid
      )
  }
})

const lateDiscard = (name: string, { aggregate, offset, partition }: FailurePolicy.Gap): string =>
  `onDiscarded of ${name} has not ended for 10 s, so the letter of offset ${offset} in partition ${partition} is not discarded, and aggregate ${aggregate} waits for it`

/** Exponential from `retryBase`, doubling up to `retryCap`, with jitter; without a number of times it never ends. */
const backoff = (config: EventBusConfig.Service, times?: number): Schedule.Schedule<unknown> => {
  const forever = Schedule.exponential(config.retryBase, 2).pipe(
    Schedule.union(Schedule.spaced(config.retryCap)),
    Schedule.jittered
  )
  return times === undefined ? forever : Schedule.intersect(forever, Schedule.recurs(times))
}

const reporter = <F extends EnvelopeFailure<unknown> | PlainFailure<unknown>>(
  failures: PubSub.PubSub<F>,
  observer: Observer.Service,
  ration: Ration
) =>
<One extends F, R>(onFailure: ((failure: One) => Effect.Effect<unknown, never, R>) | undefined) =>
// `onFailure` runs in the subscription's home, which has the services that it needs.
(failure: One, eventId: string | undefined): Effect.Effect<void> => {
  observer.event?.({ _tag: "GivenUp", failure })
  return logged(failure, eventId, ration).pipe(
    Effect.zipRight(PubSub.publish(failures, failure)),
    Effect.zipRight(
      onFailure === undefined
        ? Effect.void
        : Effect.suspend(() =>
          UserCode.call(onFailure as (failure: unknown) => Effect.Effect<unknown>, failure, undefined)
        )
    ),
    // A report that dies or interrupts itself must neither run the message again nor end its actor.
    Effect.catchAllCause((cause) =>
      ration.line(Logging.error(`onFailure died: ${describeCause(cause)}`, notesOf(failure, eventId)))
    ),
    Effect.asVoid
  )
}

/** Printing the cause takes long, so the text is made only if it is logged. */
const logged = (
  failure: EnvelopeFailure<unknown> | PlainFailure<unknown>,
  eventId: string | undefined,
  ration: Ration
): Effect.Effect<void> =>
  Effect.flatMap(
    FiberRef.get(FiberRef.currentMinimumLogLevel),
    (level) =>
      LogLevel.greaterThan(level, LogLevel.Error)
        ? Effect.void
        : ration.line(Effect.suspend(() => Logging.error(failure.message, notesOf(failure, eventId))))
  )

const notesOf = (
  failure: EnvelopeFailure<unknown> | PlainFailure<unknown>,
  eventId: string | undefined
): Logging.Notes => ({
  ...failure.position,
  group: failure.group,
  aggregateId: failure.aggregateId,
  eventId,
  ...(failure._tag === "EnvelopeFailure"
    ? { attempts: failure.attempts, restarts: failure.restarts, policy: failure.policy._tag }
    : {}),
  error: nameOf(failure.cause)
})
