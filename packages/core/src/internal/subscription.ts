import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"
import * as PubSub from "effect/PubSub"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Behaviour } from "../ActorSupervisor.js"
import type * as Dispatcher from "../Dispatcher.js"
import type * as EventBusConfig from "../EventBusConfig.js"
import { InvalidConfiguration } from "../EventBusError.js"
import type { SubscribeError } from "../EventBusError.js"
import type { EnvelopeFailure, PlainFailure } from "../Failure.js"
import * as FailurePolicy from "../FailurePolicy.js"
import type {
  AtLeastOnceOptions,
  AtMostOnceOptions,
  CloseReport,
  EnvelopeAtMostOnceOptions,
  EnvelopeOptions,
  Subscription
} from "../Subscription.js"
import type * as Transport from "../Transport.js"
import * as AtLeastOnce from "./atLeastOnce.js"
import { AtLeastOnceLane } from "./atLeastOnceLane.js"
import * as AtMostOnce from "./atMostOnce.js"
import { AtMostOnceLane } from "./atMostOnceLane.js"
import { Budget } from "./budget.js"
import { Counters } from "./counters.js"
import * as DeadLetter from "./deadLetter.js"
import { describeCause } from "./describeCause.js"
import type { Handler } from "./handler.js"
import { Router } from "./router.js"
import * as UserCode from "./userCode.js"
import type { Work } from "./work.js"

/** How many failures wait for a slow reader of `failures`, before the oldest are left out. */
const failuresCapacity = 1_024

/** @internal */
export interface Environment {
  readonly transport: Transport.Service
  readonly dispatcher: Dispatcher.Service
  readonly config: EventBusConfig.Service
  /** Runs when the subscription has been closed, by whomever. */
  readonly onClosed: Effect.Effect<void>
}

/** @internal */
export type Options<E, R> =
  | (
    & AtLeastOnceOptions<E, R>
    & Pick<EnvelopeOptions<E, R>, "onUnknownType" | "onTombstone">
    & { readonly semantics: "at-least-once" }
  )
  | (
    & AtMostOnceOptions<E, R>
    & Pick<EnvelopeAtMostOnceOptions<E, R>, "onUnknownType" | "onTombstone">
    & { readonly semantics: "at-most-once" }
  )

/**
 * Puts a subscription together: lanes that the transport fills, mailboxes, and actors
 * with the behaviour that the semantics asks for. It runs until it is closed, or its scope ends.
 *
 * @internal
 */
export const make = <E, R>(
  environment: Environment,
  topic: Transport.TopicSpec,
  handler: Handler<E, R>,
  options: Options<E, R>
): Effect.Effect<Subscription<EnvelopeFailure<E> | PlainFailure<E>>, SubscribeError, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { config, dispatcher, transport } = environment
      const group = options.group ?? config.group
      const name = `${topic.name}/${group}`
      if (typeof options.startFrom === "object" && transport.capabilities.startAt !== true) {
        return yield* new InvalidConfiguration({
          topic: topic.name,
          issues: [`startFrom: the ${transport.name} transport begins at "earliest" or "latest" only`]
        })
      }
      const counters = new Counters()
      const failures = yield* PubSub.sliding<EnvelopeFailure<E> | PlainFailure<E>>(failuresCapacity)
      const report = reporter(failures)
      const behaviour: Behaviour<Work, R> = options.semantics === "at-least-once"
        ? AtLeastOnce.behaviour<E, R>({
          handler,
          counters,
          onExhausted: options.onExhausted,
          onUnknownType: options.onUnknownType,
          onError: options.onError ?? (() => FailurePolicy.retry),
          retry: options.retry ?? backoff(config, config.retryTimes),
          holdInterval: config.holdInterval,
          deadLetter: DeadLetter.publisher(transport, config.publishTimeout, backoff(config)),
          report: report(options.onFailure)
        })
        : AtMostOnce.behaviour<E, R>({
          handler,
          counters,
          onUnknownType: options.onUnknownType,
          report: report(options.onFailure)
        })

      // Actors and the transport's subscription live in scopes of their own: closing needs an order.
      const actors = yield* Scope.make()
      const source = yield* Scope.make()
      const mailboxes = yield* Scope.extend(dispatcher.open(name, behaviour), actors)
      const run = Runtime.runFork(yield* Effect.runtime<never>())
      const scheduler = yield* FiberRef.get(FiberRef.currentScheduler)
      const lanes = new Set<Transport.Lane>()
      const settings = {
        mailboxes,
        counters,
        router: new Router({ group, incoming: handler.incoming }),
        bytes: new Budget(config.maxBytes),
        maxUnfinished: config.maxUnfinished,
        settledAhead: new Budget(config.maxSettledAhead),
        nextTurn: scheduler === Scheduler.defaultScheduler ? nextTurn : undefined,
        fork: (effect: Effect.Effect<void>) => run(Effect.interruptible(effect), { scope: actors })
      }
      const consumer: Transport.Consumer = {
        assigned: (assignment) => {
          const lane = options.semantics === "at-least-once"
            ? new AtLeastOnceLane(assignment, settings)
            : new AtMostOnceLane(assignment, settings)
          const tracked: Transport.Lane = {
            offer: (messages) => lane.offer(messages),
            close: (options) => Effect.ensuring(lane.close(options), Effect.sync(() => lanes.delete(tracked)))
          }
          lanes.add(tracked)
          return tracked
        }
      }
      const subscribed = yield* restore(transport.subscribe({
        topic,
        group,
        semantics: options.semantics,
        startFrom: options.startFrom ?? "earliest",
        maxAboveWatermark: config.maxAboveWatermark,
        maxUnfinished: config.maxUnfinished,
        drainDeadline: config.drainDeadline
      }, consumer)).pipe(
        Scope.extend(source),
        Effect.onExit((exit) =>
          Exit.isFailure(exit) ? Effect.zipRight(Scope.close(source, exit), Scope.close(actors, exit)) : Effect.void
        )
      )

      const closed = yield* Deferred.make<CloseReport>()
      let closing = false
      const closeOnce = Effect.gen(function*() {
        yield* subscribed.stop
        const reports = yield* Effect.forEach(
          Array.from(lanes),
          (lane) => lane.close({ deadline: config.closeDeadline, finishQueued: true }),
          { concurrency: "unbounded" }
        )
        return reports.reduce(
          (sum, one) => ({ unfinished: sum.unfinished + one.unfinished, lost: sum.lost + one.lost }),
          { unfinished: 0, lost: 0 }
        )
      }).pipe(
        // Also where the transport broke: what can be closed is closed.
        Effect.ensuring(Effect.suspend(() => Scope.close(source, Exit.void))),
        Effect.ensuring(Effect.suspend(() => Scope.close(actors, Exit.void))),
        Effect.ensuring(PubSub.shutdown(failures)),
        Effect.ensuring(environment.onClosed),
        Effect.tap(({ lost, unfinished }) =>
          unfinished === 0 && lost === 0 ? Effect.void : Effect.logWarning(
            `Subscription ${name} closed with ${unfinished} unfinished messages, which come again, and ${lost} lost ones.`
          )
        )
      )

      const close = Effect.suspend(() => {
        if (closing) return Deferred.await(closed)
        closing = true
        // In a fiber of its own: whoever closes may be interrupted, and may be a handler that closing waits for. The scope waits.
        return Effect.uninterruptible(Effect.intoDeferred(closeOnce, closed)).pipe(
          Effect.forkDaemon,
          Effect.zipRight(Deferred.await(closed))
        )
      })
      yield* Effect.addFinalizer(() => close)

      return {
        topic: topic.name,
        group,
        failures: Stream.fromPubSub(failures),
        stats: Effect.sync(() => ({ ...counters, actors: mailboxes.live() })),
        close
      }
    })
  )

/** Where somebody else decides what runs when, the event loop's turns mean nothing. */
const nextTurn = (run: () => void): void => {
  // Browsers have none.
  if (typeof setImmediate === "function") setImmediate(run)
  else setTimeout(run)
}

/** Exponential from `retryBase`, doubling up to `retryCap`, with jitter; without a number of times it never ends. */
const backoff = (config: EventBusConfig.Service, times?: number): Schedule.Schedule<unknown> => {
  const forever = Schedule.exponential(config.retryBase, 2).pipe(
    Schedule.union(Schedule.spaced(config.retryCap)),
    Schedule.jittered
  )
  return times === undefined ? forever : Schedule.intersect(forever, Schedule.recurs(times))
}

const reporter =
  <F extends EnvelopeFailure<unknown> | PlainFailure<unknown>>(failures: PubSub.PubSub<F>) =>
  <One extends F, R>(onFailure: ((failure: One) => Effect.Effect<unknown, never, R>) | undefined) =>
  (failure: One): Effect.Effect<void, never, R> =>
    logged(failure).pipe(
      Effect.zipRight(PubSub.publish(failures, failure)),
      Effect.zipRight(
        onFailure === undefined ? Effect.void : Effect.suspend(() => UserCode.call(() => onFailure(failure)))
      ),
      // A report that breaks, or interrupts itself, must not run the message again, nor end its actor.
      Effect.catchAllCause((cause) => Effect.logError(`onFailure died: ${describeCause(cause)}`)),
      Effect.asVoid
    )

/** The message has the cause in it, which takes long to print: it is made only where it is logged. */
const logged = (failure: Error): Effect.Effect<void> =>
  Effect.flatMap(
    FiberRef.get(FiberRef.currentMinimumLogLevel),
    (level) => LogLevel.greaterThan(level, LogLevel.Error) ? Effect.void : Effect.logError(failure.message)
  )
