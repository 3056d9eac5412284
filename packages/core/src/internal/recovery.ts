import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Scope from "effect/Scope"
import type * as Observer from "../Observer.js"
import * as RateLimit from "../RateLimit.js"
import * as Recovery from "../Recovery.js"
import type { Source, SourceStatus } from "../Transport.js"
import type { AddressBook } from "./addressBook.js"
import { describeCause } from "./describeCause.js"
import type { Intake } from "./intake.js"
import * as Logging from "./logging.js"

/** How long no second warning of messages that wait follows, in milliseconds. */
const quiet = 30_000

/** How long the status of a transport may take. It is read from memory. */
const patience = "5 seconds"

/** How long recovery goes on with a backlog that is not known before that is said, in milliseconds. */
const unknownFor = 10_000

const defaultRate: RateLimit.Limit = { perSecond: 1_000, burst: 100 }

/**
 * How far a subscription is behind. `isWhole`: it is no more than that; without it, it is at least that.
 *
 * @internal
 */
export interface Backlog {
  readonly messages: number
  readonly isWhole: boolean
  /** Why it is not whole. */
  readonly why: string
}

/**
 * The backlog over the partitions of this instance. A partition whose end is not known can have any, and so can one that can't be reached.
 *
 * @internal
 */
export const backlogOf = ({ isConnected, partitions }: SourceStatus): Backlog => {
  let messages = 0
  let unknown = 0
  for (const { end, watermark } of partitions) {
    if (end === undefined) unknown++
    else messages += Math.max(0, end - watermark)
  }
  const why = unknown > 0 ? `of ${unknown} partitions the end is not known` : "no broker is reached"
  return { messages, isWhole: isConnected && unknown === 0, why }
}

/**
 * Says when recovery begins and ends. It begins at once with a large backlog, and ends when the backlog has been small for a while, so that
 * it does not begin and end again and again.
 *
 * @internal
 */
export class Judge {
  private calmSince: number | undefined

  constructor(private readonly enterAt: number, private readonly leaveAt: number, private readonly calmFor: number) {}

  /** Whether the subscription is to be in recovery. Times are in milliseconds. */
  judge(isOn: boolean, { isWhole, messages }: Pick<Backlog, "messages" | "isWhole">, now: number): boolean {
    const isCalm = isOn && isWhole && messages <= this.leaveAt
    if (!isCalm) {
      this.calmSince = undefined
      return isOn || messages > this.enterAt
    }
    this.calmSince ??= now
    return now - this.calmSince < this.calmFor
  }

  /** What was seen until now does not count. */
  forget(): void {
    this.calmSince = undefined
  }
}

/** @internal */
export interface Settings {
  /** The subscription, as `topic/group`. */
  readonly name: string
  /** Undefined: the backlog is not looked at before somebody says so. */
  readonly options: Recovery.Options | undefined
  readonly observer: Observer.Service
  readonly mailboxes: AddressBook
  readonly lanes: Iterable<Intake>
  /** Milliseconds. The first one can't be set back. */
  readonly clocks: { readonly monotonic: () => number; readonly time: () => number }
  /** It ends with the subscription. */
  readonly scope: Scope.Scope
  readonly fork: (effect: Effect.Effect<void>) => void
}

/**
 * The recovery mode of one subscription: what it changes, when, and who is told. Nothing of it runs while it is off and the backlog decides
 * nothing.
 *
 * @internal
 */
export class RecoveryMode {
  isOn = false
  private mode: Recovery.Mode
  private backlog: number | undefined
  /** When it was turned on. */
  private since = 0
  private limit: RateLimit.RateLimit | undefined
  private status: Source["status"]
  /** Since when the status can't be read, and whether that was said. */
  private unreadable: { readonly since: number; isSaid: boolean } | undefined
  /** Since when the backlog alone does not keep it in recovery, but is not known. `true`: that was said. */
  private unknownSince: number | true | undefined
  private isClosed = false
  private isWatching = false
  /** The lanes whose next message waits for long. */
  private readonly slow = new Set<Intake>()
  private warnedAt = -Infinity
  private readonly judge: Judge
  private readonly maxActors: number
  private readonly rate: RateLimit.Limit | "unlimited"
  private readonly interval: number
  private readonly sendTimeout: Duration.Duration
  private readonly idleTimeout: number
  private readonly oneAtATime = Effect.unsafeMakeSemaphore(1)
  private readonly wanted = Effect.unsafeMakeLatch(false)

  constructor(private readonly settings: Settings, readonly changes: PubSub.PubSub<Recovery.Change>) {
    const { options } = settings
    const values = valuesOf(options ?? {})
    this.mode = options === undefined ? false : "auto"
    this.judge = new Judge(values.enterAt, values.leaveAt, Duration.toMillis(values.calmFor))
    this.maxActors = values.maxActors
    this.rate = options?.rate ?? defaultRate
    this.sendTimeout = values.sendTimeout
    this.idleTimeout = Duration.toMillis(values.idleTimeout)
    this.interval = Math.max(
      1,
      Math.min(Duration.toMillis(values.interval), Duration.toMillis(this.sendTimeout), this.idleTimeout)
    )
  }

  /** The subscription begins: its bounds hold before the first message is offered. */
  readonly start: Effect.Effect<void> = Effect.suspend(() =>
    this.mode === "auto" && this.settings.options?.atStart !== false ? this.apply(true) : Effect.void
  )

  /** The subscription stands. */
  stands(status: Source["status"]): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.status = status
      if (this.mode !== "auto") return Effect.void
      if (status === undefined) return Effect.zipRight(this.apply(false), this.automatic)
      return Effect.zipRight(this.isOn ? this.tell("start") : Effect.void, this.automatic)
    })
  }

  /** A lane begins. */
  joined(lane: Intake): void {
    if (this.isOn) this.slowDown(lane)
  }

  /** A lane has ended. */
  left(lane: Intake): void {
    if (this.slow.delete(lane)) this.tellSend(lane, false)
  }

  readonly set = (mode: Recovery.Mode): Effect.Effect<void> =>
    Effect.zipRight(
      outside,
      this.oneAtATime.withPermits(1)(Effect.uninterruptible(Effect.suspend(() => {
        if (this.isClosed) return Effect.void
        this.mode = mode
        this.judge.forget()
        // Nobody looks for a while.
        if (this.unreadable?.isSaid === false) this.unreadable = undefined
        return mode === "auto" ? this.automatic : this.turn(mode, "hand")
      })))
    )

  /** The subscription is closed. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    return PubSub.shutdown(this.changes)
  })

  /** The backlog decides from now on, where the transport says how large it is. */
  private get automatic(): Effect.Effect<void> {
    if (this.status !== undefined) return Effect.sync(() => this.watch())
    this.mode = false
    return Effect.zipRight(
      Logging.warning(
        `Subscription ${this.settings.name}: its transport does not say how large the backlog is, so only setRecoveryMode turns recovery on`
      ),
      this.turn(false, "unknown")
    )
  }

  private turn(isOn: boolean, reason: Recovery.Change["reason"]): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.isOn === isOn ? Effect.void : Effect.zipLeft(this.apply(isOn), Effect.suspend(() => this.tell(reason)))
    )
  }

  private apply(isOn: boolean): Effect.Effect<void> {
    const { lanes, mailboxes, scope } = this.settings
    return Effect.gen(this, function*() {
      this.isOn = isOn
      this.judge.forget()
      if (isOn) {
        this.since = this.settings.clocks.monotonic()
        if (this.rate !== "unlimited") {
          this.limit ??= yield* Effect.orDie(Scope.extend(RateLimit.make("unlimited"), scope))
          yield* Effect.orDie(this.limit.set(this.rate))
        }
        this.watch()
      }
      mailboxes.limitActors(isOn ? this.maxActors : undefined)
      // Not all at once: what one of them makes others do must not keep it from the rest.
      for (const lane of Array.from(lanes)) {
        yield* this.guarded(Effect.sync(() => isOn ? this.slowDown(lane) : lane.limit(undefined)))
      }
      if (isOn) return
      if (this.limit !== undefined) yield* Effect.orDie(this.limit.set("unlimited"))
      for (const lane of this.slow) this.tellSend(lane, false)
      this.slow.clear()
    })
  }

  /** A transport that throws when it is told that there is room must not end what looks at the backlog. */
  private guarded(effect: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.catchAllDefect(effect, (defect) =>
      Logging.error(
        `Subscription ${this.settings.name}: changing its recovery mode died, and it goes on: ${
          describeCause(Cause.die(defect))
        }`
      ))
  }

  private slowDown(lane: Intake): void {
    if (this.limit !== undefined) lane.limit(this.limit[RateLimit.TypeId])
  }

  /** Tells everybody that it has changed. */
  private tell(reason: Recovery.Change["reason"]): Effect.Effect<unknown> {
    const { backlog, isOn: isInRecovery } = this
    const { clocks, name, observer } = this.settings
    const change: Recovery.Change = { isInRecovery, reason, backlog }
    observer.event?.({ _tag: "Recovery", subscription: name, change })
    const behind = backlog === undefined ? "" : `, ${backlog} messages behind`
    const seconds = Math.round((clocks.monotonic() - this.since) / 1_000)
    const line = isInRecovery
      ? `Subscription ${name} is in recovery (${reason}${behind}): at most ${this.maxActors} actors${
        this.rate === "unlimited" ? "" : `, ${this.rate.perSecond} messages a second`
      }`
      : `Subscription ${name} is no longer in recovery (${reason}${behind}), after ${seconds} s`
    return Effect.zipRight(Logging.info(line), PubSub.publish(this.changes, change))
  }

  /** Looks at the backlog and at what waits, from now on. */
  private watch(): void {
    this.wanted.unsafeOpen()
    if (this.isWatching) return
    this.isWatching = true
    this.settings.fork(Effect.forever(Effect.suspend(() => {
      if (this.isOn || this.mode === "auto") {
        return Effect.zipRight(this.guarded(this.look), Effect.sleep(this.interval))
      }
      this.wanted.unsafeClose()
      return this.wanted.await
    })))
  }

  private readonly look: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(
      this.mode === "auto" ? this.seen : Effect.succeed(undefined),
      (backlog) =>
        this.oneAtATime.withPermits(1)(Effect.uninterruptible(Effect.suspend(() => {
          if (this.isClosed) return Effect.void
          this.backlog = backlog?.messages
          const now = this.settings.clocks.monotonic()
          // It may have been set by hand while the backlog was read.
          const turned = backlog === undefined || this.mode !== "auto"
            ? Effect.void
            : this.judged(this.judge.judge(this.isOn, backlog, now))
          return turned.pipe(
            Effect.zipRight(Effect.suspend(() => this.lookAtUnknown(backlog, now))),
            Effect.zipRight(Effect.suspend(() => this.isOn ? this.lookAtActors(now) : Effect.void))
          )
        })))
    )
  )

  private judged(isOn: boolean): Effect.Effect<void> {
    return this.turn(isOn, isOn ? "backlog" : "calm")
  }

  /** Recovery that can't end because nobody knows the backlog is said, once for each time. */
  private lookAtUnknown(backlog: Backlog | undefined, now: number): Effect.Effect<void> {
    if (backlog === undefined) return Effect.void
    if (backlog.isWhole || !this.isOn || this.mode !== "auto") {
      this.unknownSince = undefined
      return Effect.void
    }
    this.unknownSince ??= now
    if (this.unknownSince === true || now - this.unknownSince < unknownFor) return Effect.void
    this.unknownSince = true
    return Logging.warning(
      `Subscription ${this.settings.name} stays in recovery as long as its backlog is not known: ${backlog.why}. setRecoveryMode(false) ends it`
    )
  }

  /** The backlog, where the transport says it. */
  private get seen(): Effect.Effect<Backlog | undefined> {
    const { status = Effect.succeed(undefined) } = this
    const begunAt = this.settings.clocks.monotonic()
    return status.pipe(
      Effect.timeoutFail({ duration: patience, onTimeout: () => new Error(`it has not answered within ${patience}`) }),
      Effect.flatMap((found) => Effect.as(Effect.suspend(() => this.readAgain), found && backlogOf(found))),
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.failCause(cause as Cause.Cause<never>)
          : Effect.as(this.unread(cause, begunAt), undefined)
      )
    )
  }

  /** It is said once it lasts, and when it is over. */
  private unread(cause: Cause.Cause<unknown>, begunAt: number): Effect.Effect<void> {
    const { clocks, name } = this.settings
    const one = this.unreadable ??= { since: begunAt, isSaid: false }
    if (one.isSaid || clocks.monotonic() - one.since < unknownFor) return Effect.void
    one.isSaid = true
    return Logging.warning(
      `Subscription ${name}: the transport's status failed, and is asked again; the backlog of that time is not known: ${
        describeCause(cause)
      }`
    )
  }

  private get readAgain(): Effect.Effect<void> {
    const { clocks, name } = this.settings
    const one = this.unreadable
    this.unreadable = undefined
    if (one === undefined || !one.isSaid) return Effect.void
    const seconds = Math.round((clocks.monotonic() - one.since) / 1_000)
    return Logging.warning(`Subscription ${name}: the transport's status is read again, after ${seconds} s`)
  }

  private lookAtActors(now: number): Effect.Effect<void> {
    const { clocks, lanes, mailboxes, name } = this.settings
    mailboxes.endIdleSince(now - this.idleTimeout)
    const time = clocks.time()
    const begun: Array<string> = []
    for (const lane of lanes) {
      const flight = lane.waitsForRoom
      const isSlow = flight !== undefined && time - flight.since >= Duration.toMillis(this.sendTimeout)
      if (isSlow === this.slow.has(lane)) continue
      if (isSlow) {
        this.slow.add(lane)
        begun.push(`${flight.topic}[${flight.partition}]${flight.key === undefined ? "" : ` (${flight.key})`}`)
      } else this.slow.delete(lane)
      this.tellSend(lane, isSlow)
    }
    if (begun.length === 0 || now - this.warnedAt < quiet) return Effect.void
    this.warnedAt = now
    return Logging.warning(
      `Subscription ${name}, in recovery: the next message of ${begun.length} partitions has waited for ${
        Duration.format(this.sendTimeout)
      } for room in its mailbox, or for an actor, and goes on waiting: ${begun.slice(0, 5).join(", ")}. ` +
        "This is said every 30 seconds at most."
    )
  }

  private tellSend(lane: Intake, isReached: boolean): void {
    const { name, observer } = this.settings
    observer.event?.({ _tag: "Bound", bound: "send", subscription: name, partition: lane.partition, isReached })
  }
}

const valuesOf = (options: Recovery.Options) => {
  const { spec } = Recovery
  const enterAt = options.enterAt ?? spec.enterAt.value
  const durationOf = (name: "calmFor" | "interval" | "sendTimeout" | "idleTimeout") =>
    Duration.decode(options[name] ?? spec[name].value)
  return {
    enterAt,
    leaveAt: options.leaveAt ?? Math.floor(enterAt / 2),
    maxActors: options.maxActors ?? spec.maxActors.value,
    calmFor: durationOf("calmFor"),
    interval: durationOf("interval"),
    sendTimeout: durationOf("sendTimeout"),
    idleTimeout: durationOf("idleTimeout")
  }
}

/** Not in the middle of an offer, where an observer or a codec may call this. */
const outside = Effect.async<void>((resume) => queueMicrotask(() => resume(Effect.void)))
