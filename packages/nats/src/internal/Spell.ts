/**
 * One spell of reading a partition: what is outstanding is got back first, then it is read on, until something breaks it.
 */
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import { deniedInWords, type NatsRequestFailed } from "../NatsErrors.js"
import type { Acks } from "./Acks.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import type { Bodiless } from "./Bodiless.js"
import { bounded } from "./Bounded.js"
import type { Connection } from "./Connection.js"
import * as ConsumerWatch from "./ConsumerWatch.js"
import type { HeldBack } from "./HeldBack.js"
import type { Intake } from "./Intake.js"
import type { Lease } from "./Lease.js"
import type { Stream } from "./NatsStreams.js"
import type { OfferLimit } from "./OfferLimit.js"
import type { Progress } from "./Progress.js"
import { expiry, Pull } from "./Pull.js"
import { type Broken, hasGap } from "./ReaderState.js"
import type { ResumePoint } from "./ResumePoint.js"
import * as TakeOver from "./TakeOver.js"

/** How often it is looked at whether another reader of the same consumer is still there. */
const sharedCheck = "5 seconds"

/** How often it is told that messages are gone. */
const vanishedInterval = "10 seconds"

/** Acknowledgements that are not confirmed for so long are told, in milliseconds. */
const untilUnconfirmed = 10_000

/** Beside a message's body the server counts its subjects and headers towards the bytes of a request. */
const overhead = 70_000

export interface Options {
  readonly connection: Connection
  readonly api: Api
  readonly settings: Settings
  readonly request: SubscribeRequest
  /** The consumer's settings; its filter is the partition's subjects. */
  readonly config: ConsumerConfig
  readonly lease: Pick<Lease, "isValid">
  readonly limit: Pick<OfferLimit, "raising">
  /** What the take-overs of all its partitions hold back. */
  readonly heldBack: HeldBack
  readonly opening: Effect.Semaphore
  /** How many partitions of the subscription share what may be fetched ahead. */
  readonly sharers: () => number
}

/** What the spells of one partition have in common. */
export interface Shared {
  readonly acks: Acks
  readonly bodiless: Bodiless
  readonly intake: Intake
  readonly progress: Progress
  readonly resumePoint: ResumePoint
  /** To be called from time to time. */
  readonly look: () => void
}

/** What was found when it begins. */
export interface Opened {
  readonly stream: Stream
  readonly info: ConsumerInfo
}

export class Spell {
  private readonly durable: string
  private readonly broken = Deferred.unsafeMake<never, Broken>(FiberId.none)
  private readonly vanished = Effect.runSync(Queue.sliding<void>(1))
  /** Why acknowledgements are not confirmed; undefined: they are again. */
  private readonly unconfirmed = Effect.runSync(Queue.sliding<string | undefined>(1))
  private pull: Pull | undefined

  constructor(private readonly options: Options, private readonly shared: Shared, private readonly opened: Opened) {
    this.durable = options.config.durable_name!
  }

  /** Reads until something breaks it. `onHealthy` is called when it gets so far. */
  run(onHealthy: () => void): Effect.Effect<never, Broken | NatsRequestFailed> {
    const { api, config: wanted, connection, limit, settings } = this.options
    const { intake, progress } = this.shared
    return Effect.scoped(Effect.gen(this, function*() {
      if (!connection.isUp()) this.end({ reason: "Disconnected" })
      const listener = { onDisconnect: () => this.end({ reason: "Disconnected" }) }
      connection.listeners.add(listener)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.listeners.delete(listener)))
      yield* Effect.raceFirst(Deferred.await(this.broken), this.recover)
      onHealthy()
      progress.healthy()
      yield* this.fork(limit.raising(() => intake.resume("Limit")))
      yield* this.fork(
        ConsumerWatch.run({
          api,
          stream: this.opened.stream,
          wanted,
          found: this.opened.info.config,
          onBroken: (broken) => this.end(broken),
          onPaused: progress.paused,
          intake
        })
      )
      yield* this.fork(this.tellVanished)
      yield* this.fork(this.tellUnconfirmed)
      intake.flow()
      this.endIfBroken()
      const watch = () => this.watch()
      connection.pulse.add(watch)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.pulse.delete(watch)))
      if (intake.life.state.isShared) {
        yield* Effect.logWarning("Another process reads from the same consumer: order per aggregate is not kept").pipe(
          Effect.annotateLogs("ackWait", settings.ackWait)
        )
        yield* this.fork(this.untilAlone)
      }
      return yield* Deferred.await(this.broken)
    }))
  }

  /** The first reason counts. */
  private end(broken: Broken): void {
    this.shared.intake.life.tell({ _tag: "Broke", broken })
    Deferred.unsafeDone(this.broken, Effect.fail(broken))
  }

  /** A delivery can have broken it. */
  private endIfBroken(): void {
    const { phase } = this.shared.intake.life.state
    if (phase._tag === "Broken") this.end(phase.broken)
  }

  /** What was to go on, and can't, must not end in silence. */
  private fork(effect: Effect.Effect<void>): Effect.Effect<Fiber.RuntimeFiber<void>, never, Scope.Scope> {
    return Effect.forkScoped(Effect.catchAllCause(effect, (cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.failCause(cause)
        : Effect.sync(() => this.end({ reason: "Defect", detail: Cause.pretty(cause) }))))
  }

  /** What the lane's finished messages and the server's silence need from time to time. */
  private watch(): void {
    const { acks, intake, look, progress } = this.shared
    const now = performance.now()
    acks.retry(now)
    look()
    const why = acks.unconfirmedFor(now) < untilUnconfirmed
      ? undefined
      : acks.denied === undefined
      ? "no answer"
      : deniedInWords(acks.denied)
    if (progress.unconfirmed(why, acks.denied !== undefined)) Queue.unsafeOffer(this.unconfirmed, why)
    if (this.pull?.isSilent(now) === true) this.end({ reason: "Silence", detail: "no heartbeats" })
    else this.pullMore()
    if (intake.vanished > 0) Queue.unsafeOffer(this.vanished, undefined)
  }

  private readonly tellUnconfirmed: Effect.Effect<never> = Effect.suspend(() =>
    Effect.flatMap(Queue.take(this.unconfirmed), (why) =>
      why === undefined
        ? Effect.logInfo("The server confirms acknowledgements again")
        : Effect.logWarning(
          "The server does not confirm acknowledgements: what was handled is not settled and comes again after a restart, and reading stops when " +
            "too much is outstanding"
        ).pipe(Effect.annotateLogs({ consumer: this.durable, reason: why, unconfirmed: this.shared.acks.size })))
  ).pipe(Effect.forever)

  /** Says that messages are gone, once in a while. */
  private readonly tellVanished: Effect.Effect<never> = Effect.suspend(() =>
    Queue.take(this.vanished).pipe(
      Effect.zipRight(Effect.suspend(() => {
        const { intake } = this.shared
        const { isWhole, vanished } = intake
        intake.vanished = 0
        return vanished === 0 ? Effect.void : Effect.logWarning(
          "Messages are gone that nobody had read: they were purged or deleted, expired (max_age), or were dropped at a limit of the stream"
        ).pipe(
          Effect.annotateLogs({ consumer: this.durable, [isWhole ? "count" : "atLeast"]: vanished }),
          Effect.zipRight(Effect.sleep(vanishedInterval))
        )
      })),
      Effect.forever
    )
  )

  private readonly recover: Effect.Effect<void, NatsRequestFailed, Scope.Scope> = Effect.suspend(() => {
    const { api, config, connection, heldBack, settings } = this.options
    const { acks, bodiless, intake, progress, resumePoint } = this.shared
    const { info, stream } = this.opened
    const expires = expiry(settings.leaseDuration)
    return Effect.gen(this, function*() {
      resumePoint.isComplete = false
      bodiless.forget(intake.finished)
      acks.forgetAbove(info.delivered.stream_seq)
      intake.forgetAbove(info.delivered.stream_seq)
      yield* bounded(acks.confirmed, settings.requestTimeout)
      const onEnd: TakeOver.Context["onEnd"] = { current: undefined }
      const pull = yield* Effect.acquireRelease(
        Effect.sync(() => this.pull = this.pulling(expires, onEnd)),
        (pull) => Effect.sync(() => this.ended(pull))
      )
      const result = yield* TakeOver.run({
        api,
        connection,
        intake,
        pull,
        stream: stream.name,
        durable: this.durable,
        maxBytes: this.maxBytes,
        expires,
        config,
        onEnd,
        acks,
        room: heldBack.room(this),
        turns: this.options.opening,
        onPaused: progress.paused
      }).pipe(Effect.ensuring(Effect.sync(() => heldBack.done(this))))
      if (result === "Alone") {
        if (hasGap(intake.life.state)) return this.end({ reason: "Gap" })
        resumePoint.recovered(info.delivered.stream_seq)
      }
      // What is missing from now on breaks it; of the rest it is known that it comes later.
      intake.life.tell({ _tag: "Recovers" })
    })
  })

  private pulling(expires: number, onEnd: TakeOver.Context["onEnd"]): Pull {
    const { connection, settings } = this.options
    const { bodiless, intake, resumePoint } = this.shared
    const subject = `${settings.apiPrefix}.CONSUMER.MSG.NEXT.${this.opened.stream.name}.${this.durable}`
    return new Pull(connection, subject, serial++, expires, {
      onMessage: (message, position, reply) => {
        if (bodiless.isDoubtful(message, position.sequence)) {
          return this.end({ reason: "ConsumerChanged", detail: "it leaves out the bodies (headers_only)" })
        }
        if (!intake.receive(message, position, reply)) resumePoint.isComplete = false
        this.endIfBroken()
      },
      // While what is outstanding is got back, whoever does that asks for more.
      onEnd: () => intake.life.state.phase._tag === "Recovering" ? onEnd.current?.() : this.pullMore(),
      onBroken: (broken) => this.end(broken)
    }, this.opened.info.config.max_batch || undefined)
  }

  private ended(pull: Pull): void {
    this.shared.intake.life.tell({
      _tag: "Ended",
      answer: pull.hasHeard ? "Heard" : pull.isUnanswered(performance.now()) ? "Silent" : "Unknown"
    })
    pull.close()
    this.pull = undefined
  }

  private readonly untilAlone: Effect.Effect<void> = Effect.suspend(() =>
    this.options.api.consumerInfo(this.opened.stream.name, this.durable).pipe(
      Effect.map((info) => info.num_waiting <= (this.pull !== undefined && this.pull.open > 0 ? 1 : 0)),
      // Nobody else would ask again.
      Effect.catchAll((failure) =>
        Effect.as(Effect.logDebug("The readers of the consumer could not be counted", failure.message), false)
      ),
      Effect.delay(sharedCheck),
      Effect.repeat({ until: (isAlone) => isAlone }),
      Effect.map(() => this.end({ reason: "Alone" }))
    )
  )

  /** Asks for as many messages as there is room for, one request at a time. */
  pullMore(): void {
    const { connection } = this.options
    const { pull, shared: { intake } } = this
    if (pull === undefined || pull.open > 0 || !intake.isOpen || !connection.isUp()) return
    // Of what is pulled when others may own it already, they would have to wait for the end.
    if (!this.options.lease.isValid()) return
    const batch = this.prefetch - intake.buffered
    if (batch <= 0) return
    pull.request({ batch, maxBytes: this.maxBytes })
  }

  /** What there is room for, and one message of the largest. */
  private get maxBytes(): number {
    const { connection, settings, sharers } = this.options
    const room = settings.prefetchBytes / sharers() - this.shared.intake.bufferedBytes
    return Math.max(Math.floor(room), connection.maxPayload() + overhead)
  }

  private get prefetch(): number {
    const { request, settings, sharers } = this.options
    return Math.max(1, Math.min(Math.ceil(settings.prefetchMessages / sharers()), request.maxUnfinished))
  }
}

/** Each spell of the process has an inbox of its own. */
let serial = 0
