import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Control, GiveUpOptions, Pause, PauseAggregateOptions, PauseOptions } from "../../Control.js"
import { GivenUpByHand, InvalidConfiguration, TooManyPaused } from "../../EventBusError.js"
import type { FailurePolicy } from "../../FailurePolicy.js"
import type { Service as Transport, TopicSpec } from "../../Transport.js"
import type { AddressBook } from "../addressBook.js"
import type { Subscriber } from "../flight.js"
import * as Logging from "../logging.js"
import * as ParkingControl from "../parking/control.js"
import type { Parking } from "../parking/parking.js"
import * as PolicyIssues from "../policyIssues.js"
import * as Safely from "../safely.js"
import * as Inspect from "./inspect.js"

/** How many aggregates of a subscription can be paused. */
const maxPaused = 10_000

const maxReason = 500

/** No later date can be written. */
const latest = 8.64e15

/** A timer may not be longer than about 24 days, so a longer wait takes several. */
const longestSleep = 24 * 3_600_000

/** @internal */
export interface Environment {
  readonly topic: TopicSpec
  readonly transport: Transport
  readonly subscriber: Subscriber
  readonly book: AddressBook
  /** Undefined: no policy parks. */
  readonly parking: Parking | undefined
  /** Undefined: the subscription is at-most-once. */
  readonly onExhausted: FailurePolicy | undefined
  /** The lanes take messages again. */
  readonly goOn: () => void
  /** The guard lets it go on. `false`: it had not stopped it. */
  readonly letGo: () => boolean
  /** Runs something until the subscription ends. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/**
 * What somebody can do with a running subscription by hand.
 *
 * @internal
 */
export const make = (environment: Environment): Control => {
  const { book, goOn, onExhausted, subscriber, topic, transport } = environment
  const { group, name, observer } = subscriber
  const timers = new Timers(environment.fork)
  /** The pause of the whole subscription. */
  let whole: Pause | undefined
  /** What holds the subscription meanwhile. */
  const byHand = {}
  book.onPauseEnded = (aggregate, pause) => {
    timers.end(pause)
    tell("Resumed", aggregate)
  }

  const tell = (_tag: "Paused" | "Resumed", aggregate: string | undefined) =>
    observer.event?.({ _tag, subscription: name, aggregate })

  const resume = Effect.suspend(() => {
    if (whole === undefined) return Effect.succeed(false)
    const pause = whole
    whole = undefined
    timers.end(pause)
    // An open circuit keeps it from going on.
    if (book.paused?.letGoOf(byHand) !== false) goOn()
    tell("Resumed", undefined)
    return Effect.as(Logging.info(`Subscription ${name} goes on`), true)
  })

  const pause = (options: PauseOptions = {}) =>
    Effect.flatMap(pauseOf(options), (pause) => {
      if (whole !== undefined) timers.end(whole)
      whole = pause
      book.pauses.hold(byHand)
      timers.begin(pause, Effect.asVoid(resume))
      tell("Paused", undefined)
      return Logging.info(`Subscription ${name} is paused${saidOf(pause)}`)
    })

  const resumeAggregate = (aggregate: string) =>
    Effect.sync(() => {
      const aside = book.paused?.asides.get(aggregate)
      if (aside?.pause === undefined) return false
      book.paused!.resume(aside)
      return true
    })

  const pauseAggregate = (aggregate: string, options: PauseAggregateOptions = {}) =>
    Effect.flatMap(pauseOf(options), (pause) => {
      const { pauses } = book
      const former = pauses.asides.get(aggregate)?.pause
      if (former === undefined && pauses.asides.size >= maxPaused && pauses.count >= maxPaused) {
        return new TooManyPaused({ topic: topic.name, group, limit: maxPaused })
      }
      if (former !== undefined) timers.end(former)
      pauses.pause(aggregate, pause)
      timers.begin(pause, Effect.asVoid(resumeAggregate(aggregate)))
      tell("Paused", aggregate)
      return Logging.debug(`Aggregate ${aggregate} of ${name} is paused${saidOf(pause)}`)
    })

  const giveUp = (aggregate: string, { policy, reason }: GiveUpOptions = {}) =>
    Effect.suspend(() => {
      const issues = policy === undefined ? [] : policyIssues(transport, topic, policy, onExhausted !== undefined)
      if (issues.length > 0) return new InvalidConfiguration({ topic: topic.name, issues })
      const mailbox = book.get(aggregate)
      const inHand = mailbox && book.handOf(mailbox)
      const aside = book.paused?.asides.get(aggregate)
      const flight = inHand ?? aside?.flights[0]
      if (
        flight === undefined || flight.verdict !== undefined || flight.state === "ended" ||
        flight.state === "dead-lettering" || flight.state === "parking" || flight.isDecided ||
        (flight.isHeld && policy === undefined)
      ) return Effect.succeed(false)
      flight.verdict = {
        policy,
        defect: new GivenUpByHand({ reason: reason && Safely.cut(reason, maxReason) })
      }
      if (inHand === undefined || inHand.isAside) aside?.drain()
      else mailbox!.slot.again(inHand)
      return Effect.succeed(true)
    })

  return {
    ...ParkingControl.make(environment.parking, topic.name, name),
    pause,
    resume,
    paused: Effect.sync(() => Option.fromNullable(whole)),
    goOn: Effect.sync(environment.letGo),
    pauseAggregate,
    resumeAggregate,
    inspect: (aggregate) =>
      Effect.sync(() =>
        Option.fromNullable(
          Inspect.inspect(book, aggregate, subscriber.time(), Inspect.slownessOf({}), environment.parking)
        )
      ),
    retryNow: (aggregate) =>
      Effect.sync(() => {
        const mailbox = book.get(aggregate)
        const flight = mailbox && book.handOf(mailbox)
        if (flight === undefined || book.paused?.holdsBack(aggregate, undefined) === true) return false
        const waits = flight.state === "held" ||
          (flight.state === "waiting" && (flight.waitsFor === "retry" || flight.waitsFor === "restart"))
        return waits && mailbox!.slot.again(flight)
      }),
    giveUp,
    list: (options = {}) => Effect.sync(() => Inspect.list(book, subscriber.time(), options, environment.parking))
  }
}

const policyIssues = (
  transport: Transport,
  topic: TopicSpec,
  policy: FailurePolicy,
  hasPolicies: boolean
): ReadonlyArray<string> =>
  !hasPolicies
    ? ["policy: an at-most-once subscription has none"]
    : Predicate.isTagged(policy, "Hold")
    ? ["policy: expected FailurePolicy.deadLetter or drop"]
    : PolicyIssues.policyIssues(transport, topic, policy, "policy")

const pauseOf = ({ reason, survivesRebalance, until }: PauseAggregateOptions): Effect.Effect<Pause> =>
  Effect.map(Clock.currentTimeMillis, (since) => ({
    since,
    until: until === undefined
      ? undefined
      : until instanceof Date
      ? until.getTime()
      : since + Duration.toMillis(until),
    reason: reason && Safely.cut(reason, maxReason),
    survivesRebalance: survivesRebalance === true
  }))

const saidOf = ({ reason, until }: Pause): string =>
  (until === undefined || !(Math.abs(until) <= latest) ? "" : ` until ${new Date(until).toISOString()}`) +
  (reason === undefined ? "" : `: ${reason}`)

/** The pauses that end by themselves. */
class Timers {
  private readonly running = new Map<Pause, Fiber.RuntimeFiber<void>>()

  constructor(private readonly fork: Environment["fork"]) {}

  begin(pause: Pause, resume: Effect.Effect<void>): void {
    const { until } = pause
    if (until === undefined) return
    const wait: Effect.Effect<void> = Effect.flatMap(Clock.currentTimeMillis, (now) =>
      // A date that is none has passed.
      !(until > now)
        ? Effect.void
        : Effect.zipRight(Effect.sleep(Math.min(until - now, longestSleep)), wait))
    const ending = Effect.suspend(() => this.running.delete(pause) ? resume : Effect.void)
    this.running.set(pause, this.fork(Effect.zipRight(Effect.yieldNow(), Effect.zipRight(wait, ending))))
  }

  end(pause: Pause): void {
    const fiber = this.running.get(pause)
    this.running.delete(pause)
    fiber?.unsafeInterruptAsFork(FiberId.none)
  }
}
