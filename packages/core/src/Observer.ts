/**
 * Watches a bus: a small synchronous service. The bus tells it each transition of each message from state to state, and each event
 * at a bound, an assignment or a restart. Metrics, traces and checks can be made of it. Without an observer it costs nothing.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import type * as Circuit from "./Circuit.js"
import type { Delivery, EnvelopeDelivery } from "./Delivery.js"
import type { EnvelopeFailure, PlainFailure } from "./Failure.js"
import type { Headers } from "./Headers.js"
import { describeCause } from "./internal/describeCause.js"
import * as Logging from "./internal/logging.js"
import * as Provided from "./internal/provided.js"
import type { Change, Failure, Figures, State as RolloutState } from "./internal/rollout/state.js"
import * as Safely from "./internal/safely.js"
import type * as Recovery from "./Recovery.js"
import type { Subscription } from "./Subscription.js"
import type { EnvelopeMessage, PlainMessage } from "./TopicDefinition.js"
import type { Semantics } from "./Transport.js"

/**
 * The state of a flight. A flight is one message between the moment a lane takes it and the moment the broker need not deliver it
 * again.
 *
 * - `settling`: the broker is asked to settle the message before it is handled (at-most-once).
 * - `queued`: the message is in a mailbox.
 * - `running`: its handler runs, or `onFailure`.
 * - `waiting`: it waits for a retry, a restart or a permit.
 * - `held`: the policy is `hold`, and it waits for its next attempt.
 * - `dead-lettering`: its dead letter is being published.
 * - `parking`: its letter is being written to the store of parked messages, or waits for that.
 * - `ended`: it has ended for good; `outcome` says how.
 *
 * @since 0.1.0
 * @category models
 */
export type State = "settling" | "queued" | "running" | "waiting" | "held" | "dead-lettering" | "parking" | "ended"

/**
 * How a flight ended. `unfinished`: the message is not settled, and comes again. `lost`: it was settled before, or may have been, and was not handled.
 * `parked`: it is a letter now, which is handled when it is released. `skipped`: it was counted only. `failed`: an at-most-once handler failed.
 *
 * @since 0.1.0
 * @category models
 */
export type Outcome =
  | "handled"
  | "dead-lettered"
  | "dropped"
  | "parked"
  | "skipped"
  | "failed"
  | "unfinished"
  | "lost"

/**
 * What the observer sees of a flight. The object changes with the next transition, so copy what you keep.
 *
 * @since 0.1.0
 * @category models
 */
export interface FlightView {
  /** Its subscription, as `topic/group`. In NATS that topic may be a pattern, of which `topic` is one of many. */
  readonly subscription: string
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly group: string
  readonly epoch: number
  readonly semantics: Semantics
  readonly aggregateId: string | undefined
  readonly maybeDuplicate: boolean
  readonly headers: Headers
  readonly state: State
  /** When this state began, in milliseconds since the epoch, exact to about 10 ms. */
  readonly since: number
  /** When the lane took the message, in milliseconds since the epoch. */
  readonly takenAt: number
  /** How often its handler was started. */
  readonly attempt: number
  /** How often its actor was restarted for it. */
  readonly restarts: number
  /** How it ended; undefined until then. */
  readonly outcome: Outcome | undefined
  /** Why its last attempt failed. It may hold values of the payload. */
  readonly lastCause: Cause.Cause<unknown> | undefined
  /** The name of the strategy by which its slot was chosen; undefined until then. While a canary runs, it tells both sides apart. */
  readonly strategy: string | undefined
  /** The handler's first argument; undefined until it is decoded. */
  readonly event: unknown
  /** Whether it is a deletion: an envelope topic's message without a value. */
  readonly isTombstone: boolean
  /** The handler's second argument, as it is now. */
  readonly delivery: () => Delivery | EnvelopeDelivery
}

/**
 * What an observer is told besides transitions.
 *
 * @since 0.1.0
 * @category models
 */
export type Event =
  | {
    /** A bound has been reached, and something waits for room; or nothing waits any more. */
    readonly _tag: "Bound"
    readonly bound: "actors" | "bytes" | "settledAhead" | "concurrency" | "unfinished" | "rate" | "mailbox" | "send"
    /** The subscription, as `topic/group`. Undefined: a bound of the whole bus. */
    readonly subscription: string | undefined
    /** The partition that waits, for `unfinished`, `rate` and `send`: its next message has waited for the `sendTimeout` of recovery. */
    readonly partition?: number | undefined
    /** The slot whose mailbox it is, and its strategy, for `mailbox`: it has been full for as long as the strategy's `reportFullAfter`. */
    readonly slot?: string | undefined
    readonly strategy?: string | undefined
    readonly isReached: boolean
  }
  | {
    /** A partition was given to a subscription, or taken away. */
    readonly _tag: "Assigned" | "Revoked"
    readonly topic: string
    readonly group: string
    readonly partition: number
    readonly epoch: number
  }
  | {
    /** A message of an aggregate came from another partition of its topic than the one before, so that their order is not known. */
    readonly _tag: "OtherPartition"
    readonly subscription: string
    readonly topic: string
    /** Its id, or what stands for its key. */
    readonly aggregate: string
    readonly before: number
    readonly partition: number
    readonly offset: number
  }
  | {
    /**
     * What is known of a message with which a process has died while it was run alone. `struck`: a death was found. `cleared`: a process has died
     * without it, so it is not suspected any more. `convicted`: it goes to the failure policy without being started.
     */
    readonly _tag: "Poison"
    readonly what: "struck" | "cleared" | "convicted"
    readonly subscription: string
    readonly topic: string
    readonly partition: number
    readonly offset: number
  }
  | {
    /** A subscription or one of its aggregates was paused by hand, or goes on. */
    readonly _tag: "Paused" | "Resumed"
    readonly subscription: string
    /** Undefined: all of it. */
    readonly aggregate: string | undefined
  }
  | {
    /** A circuit, or the guard of a subscription, went from one state to another. */
    readonly _tag: "Circuit"
    readonly change: Circuit.Change
  }
  | {
    /**
     * An aggregate was parked; or all its letters were released or discarded, and its messages are handled again. `Parked` comes also when a letter that was
     * released has failed.
     */
    readonly _tag: "Parked" | "Released" | "Discarded"
    readonly subscription: string
    readonly partition: number
    /** Its id, or what stands for its key. */
    readonly aggregate: string
    /** How many letters were released or discarded. */
    readonly letters?: number | undefined
    /** The fingerprint of the failure, for `Parked`. Undefined: somebody has parked it. */
    readonly cause?: string | undefined
    /** Who released or discarded it, and why. */
    readonly by?: { readonly who: string; readonly why: string } | undefined
  }
  | {
    /** The strategy of the bus was switched, or all aggregates have moved to where they belong. */
    readonly _tag: "Switched" | "Moved"
    readonly from: string
    readonly to: string
    /** The strategy that has a share of the aggregates, while a canary runs. */
    readonly candidate: string | undefined
  }
  | {
    /** A subscription has gone into recovery, or back to normal, and why. `subscription` is `topic/group`. */
    readonly _tag: "Recovery"
    readonly subscription: string
    readonly change: Recovery.Change
  }
  | {
    /** A rollout began, went to its next step, or ended. */
    readonly _tag: "Rollout"
    readonly change: Change
  }
  | {
    /** A rollout has analysed its figures. The failures are those of this interval; a trigger fires after several in a row. */
    readonly _tag: "RolloutAnalysed"
    readonly state: RolloutState
    readonly figures: Figures
    readonly failures: ReadonlyArray<Failure>
  }
  | {
    /** A handler crashed, and its actor goes on. It comes at each crash, also at the one after which the message is given up. With a strategy that never restarts it does not come. */
    readonly _tag: "Restarted"
    readonly flight: FlightView
  }
  | {
    /** A message was given up, or is held from now on. The failure says why, and names the policy. It comes before `onFailure`. */
    readonly _tag: "GivenUp"
    readonly failure: EnvelopeFailure<unknown> | PlainFailure<unknown>
  }
  | {
    /**
     * Whether the transport's brokers can be reached: all that it knows of, some, or none. The transport tells the first state when it
     * is made, and each change.
     */
    readonly _tag: "Connected" | "Degraded" | "Disconnected"
    /** The transport's name. */
    readonly transport: string
    /** Tells several transports of one name apart. Undefined: its transport has told that without `connection`. */
    readonly connection?: number | undefined
    /** The transport has ended, and tells nothing more. It comes with `Disconnected`. */
    readonly isClosed?: true | undefined
  }
  | {
    /**
     * A group's rebalance has ended for this member, and assigned partitions or none (Kafka). Or another instance did not renew its lease,
     * so that its partitions are taken over; or this one has lost a lease (NATS).
     */
    readonly _tag: "Rebalanced" | "TakenOver" | "LeaseLost"
    /** The transport's name. */
    readonly transport: string
    readonly topic: string
    readonly group: string
  }
  | {
    /** The broker has confirmed a settlement of an assigned partition. */
    readonly _tag: "Settled"
    readonly topic: string
    readonly group: string
    readonly partition: number
    readonly epoch: number
    /** Where a position is settled (Kafka, memory): all messages below it are settled. */
    readonly position?: number | undefined
    /** Where each message is settled by itself (NATS): how many were confirmed. */
    readonly count?: number | undefined
  }
  | {
    /** Messages were published, or not. Dead letters do not count, nor does what was refused before it was sent. */
    readonly _tag: "Published"
    readonly topic: string
    readonly succeeded: number
    readonly failed: number
    /** How long it took, in milliseconds. */
    readonly duration: number
  }

/**
 * A bus that is being made, as its observer sees it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Bus {
  /** The transport's name. */
  readonly transport: string
  /** The name of the strategy that the bus begins with. The event `Switched` tells of another one. */
  readonly strategy: string
  /** The subscriptions that run now. */
  readonly subscriptions: () => ReadonlyArray<Subscription<EnvelopeFailure<unknown> | PlainFailure<unknown>>>
  /** The subscriptions that were asked for and do not stand yet, and since when, in milliseconds since the epoch. */
  readonly starting: () => ReadonlyArray<{ readonly topic: string; readonly group: string; readonly since: number }>
}

/**
 * Somebody publishes, or encodes messages that somebody else is going to send.
 *
 * @since 0.1.0
 * @category models
 */
export interface PublishRequest {
  readonly topic: string
  readonly operation: "publish" | "encode"
  readonly messages: ReadonlyArray<EnvelopeMessage<unknown> | PlainMessage>
}

/**
 * What an observer makes of a request to publish.
 *
 * @since 0.1.0
 * @category models
 */
export interface Publishing {
  /** The messages that are published instead: as many, in the same order, with other headers or another `traceId`. */
  readonly messages: ReadonlyArray<EnvelopeMessage<unknown> | PlainMessage>
  /** It has ended. The failure is the one that the publisher gets. */
  readonly ended: (exit: Exit.Exit<unknown, unknown>) => void
}

/**
 * All functions but `forBus` run in the middle of the work. They have to be quick, and must not throw.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * A flight went from one state to the next. `from` is undefined when a lane has just taken the message. `since` is when the former
   * state began, in milliseconds since the epoch, exact to about 10 ms.
   */
  readonly transition?: ((flight: FlightView, from: State | undefined, since: number) => void) | undefined
  readonly event?: ((event: Event) => void) | undefined
  /**
   * A bus is made. What the bus would tell this observer it tells the answer instead, until the scope ends. The transport goes on telling
   * this one.
   */
  readonly forBus?: ((bus: Bus) => Effect.Effect<Service, never, Scope.Scope>) | undefined
  /** The span that a handler runs in: it is asked for at each start, after the transition to `running`. Undefined: none. */
  readonly spanOf?: ((flight: FlightView) => AnySpan | undefined) | undefined
  /** Somebody publishes. It is asked in the publisher's fiber. Undefined: the messages are published as they are. */
  readonly onPublish?: ((request: PublishRequest) => Publishing | undefined) | undefined
}

/**
 * The observer of a bus and of its transport. Default: none. Provide it below both.
 *
 * @since 0.1.0
 * @category tags
 */
export class Observer extends Context.Reference<Observer>()("@effect-eventbus/core/Observer", {
  defaultValue: (): Service => none
}) {}

/**
 * An observer that does nothing.
 *
 * @since 0.1.0
 * @category constructors
 */
export const none: Service = {}

/**
 * Several observers as one. Each is told everything, in the order given, also if one before it throws. What one has made of messages that
 * are published the next one gets. The span of a handler is that of the first observer that has `spanOf`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const combine = (...observers: ReadonlyArray<Service>): Service => {
  const transitions = observers.flatMap((one) => transitionOf(one) ?? [])
  const events = observers.flatMap((one) => eventOf(one) ?? [])
  const spans = observers.flatMap((one) => one.spanOf?.bind(one) ?? [])
  const publishers = observers.flatMap((one) => one.onPublish?.bind(one) ?? [])
  const combined: Service = {
    transition: each(transitions),
    event: each(events),
    spanOf: spans[0],
    onPublish: publishers.length === 0 ? undefined : (request) => publishingOf(publishers, request),
    forBus: observers.some((one) => one.forBus !== undefined)
      ? (bus) => Effect.map(Effect.forEach(observers, (one) => builtFor(one, bus)), (all) => combine(...all))
      : undefined
  }
  parts.set(combined, observers)
  return combined
}

const publishingOf = (
  all: ReadonlyArray<NonNullable<Service["onPublish"]>>,
  request: PublishRequest
): Publishing | undefined => {
  let { messages } = request
  const ended: Array<Publishing["ended"]> = []
  for (const onPublish of all) {
    let answer: Publishing | undefined
    try {
      answer = onPublish({ ...request, messages })
    } catch (thrown) {
      // The messages are published as they were: for those before it this is over.
      each(ended)?.(Exit.void)
      throw thrown
    }
    if (answer === undefined) continue
    const { ended: tell } = answer
    messages = answer.messages
    ended.push(tell.bind(answer))
  }
  return ended.length === 0 ? undefined : { messages, ended: each(ended)! }
}

/** An observer that can't be made for a bus is left out: the bus must not fail because of it. */
const builtFor = (observer: Service, bus: Bus): Effect.Effect<Service, never, Scope.Scope> =>
  observer.forBus === undefined
    ? Effect.succeed(observer)
    : Effect.suspend(() => observer.forBus!(bus)).pipe(
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.failCause(cause)
          : Effect.as(
            Logging.warning(`An observer could not be made for a bus, so it sees nothing: ${describeCause(cause)}`),
            none
          )
      )
    )

/** What observers were combined of. */
const parts = new WeakMap<Service, ReadonlyArray<Service>>()

const allOf = (observer: Service): ReadonlyArray<Service> => [observer, ...(parts.get(observer) ?? []).flatMap(allOf)]

/** What is thrown is thrown again when all have been told. */
const each = <Args extends ReadonlyArray<unknown>>(
  all: ReadonlyArray<(...args: Args) => void>
): ((...args: Args) => void) | undefined => {
  if (all.length < 2) return all[0]
  const first = all[0]!
  const rest = each(all.slice(1))!
  return (...args) => {
    try {
      first(...args)
    } finally {
      rest(...args)
    }
  }
}

// An observer may be an instance of a class, whose methods need their `this`.
const transitionOf = (observer: Service) => observer.transition?.bind(observer)
const eventOf = (observer: Service) => observer.event?.bind(observer)

/**
 * Adds an observer to the ones that are provided already.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (observer: Service): Layer.Layer<Observer> =>
  Layer.effect(
    Observer,
    Effect.map(Observer, (others) => others === none ? observer : combine(others, observer))
  )

/** An observer has one warning, whichever bus or transport calls it. */
const guarded = new WeakMap<Service, Service>()

/**
 * The observer that is provided, as the bus and its transport use it. It runs in the middle of the work: what it throws is ignored
 * after one warning.
 *
 * @since 0.1.0
 * @category accessors
 */
export const provided: Effect.Effect<Service> = Effect.gen(function*() {
  const observer = yield* Observer
  Provided.use(none, ...allOf(observer))
  if (observer === none) return observer
  const found = guarded.get(observer)
  if (found !== undefined) return found
  const made = yield* guardedOf(observer)
  guarded.set(observer, made)
  return made
})

/**
 * The observer of a bus that is being made. It ends with the bus's scope.
 *
 * @internal
 */
export const forBus = (bus: Bus): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function*() {
    const observer = yield* Observer
    const common = yield* provided
    return observer.forBus === undefined ? common : yield* guardedOf(yield* builtFor(observer, bus))
  })

const guardedOf = (observer: Service): Effect.Effect<Service> =>
  Effect.map(Logging.atOnce, (log) => {
    const guard = guardOf((thrown) =>
      log(
        Logging.warning(
          `The observer threw (${Safely.nameOf(thrown)}). What it throws is ignored, and this is said once.`
        )
      )
    )
    const onPublish = guard(observer.onPublish?.bind(observer))
    return {
      transition: guard(transitionOf(observer)),
      event: guard(eventOf(observer)),
      spanOf: guard(observer.spanOf?.bind(observer)),
      onPublish: onPublish && ((request) => {
        const answer = onPublish(request)
        return answer && { messages: answer.messages, ended: guard(answer.ended.bind(answer))! }
      })
    }
  })

/** With up to three arguments, because rest parameters cost an array at each call, and there are several for every message. */
const guardOf = (say: (thrown: unknown) => void) => {
  let isSaid = false
  return <F extends (...args: never) => unknown>(tell: F | undefined): F | undefined => {
    if (tell === undefined) return undefined
    const call = tell as unknown as (a: unknown, b: unknown, c: unknown) => unknown
    const guarded = (a: unknown, b: unknown, c: unknown): unknown => {
      try {
        return call(a, b, c)
      } catch (thrown) {
        if (!isSaid) {
          isSaid = true
          say(thrown)
        }
        return undefined
      }
    }
    return guarded as unknown as F
  }
}

/** How many there were in this process. */
let connections = 0

/**
 * For transports: tells the observer the states of the connection, each change once. When the scope ends, it tells `Disconnected` with
 * `isClosed`.
 *
 * @since 0.1.0
 * @category transports
 */
export const connection = (
  transport: string
): Effect.Effect<(state: "Connected" | "Degraded" | "Disconnected") => void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { event } = yield* provided
    const number = connections++
    let last: string | undefined
    const tell = (_tag: "Connected" | "Degraded" | "Disconnected"): void => {
      if (last === _tag) return
      last = _tag
      event?.({ _tag, transport, connection: number })
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (last !== undefined) event?.({ _tag: "Disconnected", transport, connection: number, isClosed: true })
      })
    )
    return tell
  })
