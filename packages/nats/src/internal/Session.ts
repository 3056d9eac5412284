/**
 * A subscription's time with one durable consumer: epochs, one after the other,
 * each of which first gets back what is outstanding and then reads on.
 */
import type { Assignment, Consumer, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import type { NatsRequestFailed } from "../NatsErrors.js"
import { consumerWarnings } from "../NatsPreflight.js"
import type { NatsStreams, Stream, StreamError } from "../NatsStreams.js"
import { Acks } from "./Acks.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import { bounded } from "./Bounded.js"
import type { Connection } from "./Connection.js"
import * as DurableConsumer from "./DurableConsumer.js"
import { Intake } from "./Intake.js"
import { type Broken, Pull } from "./Pull.js"
import { settle } from "./Settlement.js"
import * as TakeOver from "./TakeOver.js"

/** How often it is looked at whether another reader of the same consumer is still there. */
const sharedCheck = "5 seconds"

/** How long the server may take to answer acknowledgements, in milliseconds; then they are sent again. */
const answerTimeout = 2_000

/** Beside a message's body the server counts its subjects and headers towards the bytes of a request. */
const overhead = 70_000

export interface Options {
  readonly connection: Connection
  readonly api: Api
  readonly streams: NatsStreams
  readonly settings: Settings
  readonly request: SubscribeRequest
  readonly consumer: Consumer
  readonly durable: string
}

/** What was found when an epoch begins. */
export interface Opened {
  readonly stream: Stream
  readonly info: ConsumerInfo
}

export class Session {
  readonly acks: Acks
  readonly intake: Intake
  isClosed = false
  private readonly config: ConsumerConfig
  private pull: Pull | undefined
  private epochs = 0
  private stream: Stream | undefined
  private assignment: Assignment | undefined
  /** Where to begin when the consumer is gone; undefined before it was ever there. */
  private resumeFrom: number | undefined

  constructor(private readonly options: Options) {
    const { connection, durable, request, settings } = options
    this.config = DurableConsumer.toConfig(durable, request, settings)
    this.acks = new Acks(connection, answerTimeout)
    this.intake = new Intake(connection, this.acks, () => this.pullMore())
  }

  /** Finds or makes stream and consumer, and gives the bus its assignment. */
  readonly open: Effect.Effect<Opened, StreamError> = Effect.suspend(() => {
    const { api, request, settings, streams } = this.options
    return Effect.gen(this, function*() {
      const stream = yield* streams.refresh(request.topic)
      const isOther = stream.created !== this.stream?.created || stream.last < this.intake.highest
      if (this.stream !== undefined && isOther) yield* this.startOver(stream)
      const info = yield* DurableConsumer.ensure(
        api,
        settings,
        stream.name,
        this.config,
        this.resumeFrom === undefined ? undefined : this.resumePosition(),
        this.preflight
      )
      this.stream = stream
      this.resumeFrom ??= info.ack_floor.stream_seq + 1
      if (this.assignment === undefined) yield* this.assign
      return { stream, info }
    })
  })

  /** Once, at the start of the subscription. */
  private readonly preflight = (found: ConsumerConfig | undefined): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { durable, request, settings } = this.options
      if (settings.preflight === "off" || this.stream !== undefined) return Effect.void
      const warnings = consumerWarnings(request.semantics, settings.ackWait, found)
      if (warnings.length === 0) return Effect.void
      return Effect.logWarning("The consumer's settings are weaker than what the bus promises").pipe(
        Effect.annotateLogs({ consumer: durable, reasons: warnings.join("; ") })
      )
    })

  /** Reads until something breaks it. `onHealthy` is called when it gets so far. */
  epoch(opened: Opened, onHealthy: () => void): Effect.Effect<never, Broken | NatsRequestFailed> {
    const { connection, settings } = this.options
    return Effect.scoped(Effect.gen(this, function*() {
      const broken = yield* Deferred.make<never, Broken>()
      const breakWith = (reason: Broken) => Deferred.unsafeDone(broken, Effect.fail(reason))
      if (!connection.isUp()) return yield* Effect.fail<Broken>({ reason: "Disconnected" })
      const listener = { onDisconnect: () => breakWith({ reason: "Disconnected" }) }
      connection.listeners.add(listener)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.listeners.delete(listener)))
      yield* Effect.raceFirst(Deferred.await(broken), this.recover(opened, breakWith))
      onHealthy()
      this.intake.flow()
      const watch = this.watch(breakWith).pipe(Effect.delay("500 millis"), Effect.forever)
      if (this.intake.isShared) {
        yield* Effect.logWarning("Another process reads from the same consumer: order per aggregate is not kept").pipe(
          Effect.annotateLogs("ackWait", settings.ackWait)
        )
        yield* Effect.forkScoped(this.untilAlone(opened, breakWith))
      }
      return yield* Effect.raceFirst(Deferred.await(broken), watch)
    }))
  }

  /** What the lane's finished messages and the server's silence need from time to time. */
  private watch(breakWith: (reason: Broken) => void): Effect.Effect<void> {
    return Effect.sync(() => {
      this.acks.retry(performance.now())
      if (this.pull?.isSilent(performance.now()) === true) breakWith({ reason: "Silence", detail: "no heartbeats" })
      else this.pullMore()
    })
  }

  private recover(
    opened: Opened,
    breakWith: (reason: Broken) => void
  ): Effect.Effect<void, NatsRequestFailed, Scope.Scope> {
    const { api, connection, durable, settings } = this.options
    return Effect.gen(this, function*() {
      this.acks.forgetAbove(opened.info.delivered.stream_seq)
      yield* bounded(this.acks.confirmed, settings.requestTimeout)
      const gap = { seen: false }
      const onEnd: TakeOver.Context["onEnd"] = { current: undefined }
      let isRecovering = true
      const pull = yield* Effect.acquireRelease(
        Effect.sync(() =>
          this.pull = new Pull(
            connection,
            `${settings.apiPrefix}.CONSUMER.MSG.NEXT.${opened.stream.name}.${durable}`,
            this.nextEpoch(),
            {
              onMessage: (message, position, reply) => {
                if (this.intake.receive(message, position, reply)) return
                gap.seen = true
                if (!isRecovering) breakWith({ reason: "Gap" })
              },
              onEnd: () => isRecovering ? onEnd.current?.() : this.pullMore(),
              onBroken: breakWith
            }
          )
        ),
        (pull) =>
          Effect.sync(() => {
            pull.close()
            if (this.pull === pull) this.pull = undefined
          })
      )
      const result = yield* TakeOver.run({
        api,
        connection,
        intake: this.intake,
        pull,
        stream: opened.stream.name,
        durable,
        config: this.config,
        onEnd,
        gap
      })
      isRecovering = false
      if (result === "Alone" && gap.seen) breakWith({ reason: "Gap" })
      this.resumeFrom = Math.max(this.resumeFrom ?? 1, opened.info.delivered.stream_seq + 1)
    })
  }

  private untilAlone(
    opened: Opened,
    breakWith: (reason: Broken) => void
  ): Effect.Effect<void, NatsRequestFailed> {
    const { api, durable } = this.options
    return Effect.suspend(() => api.consumerInfo(opened.stream.name, durable)).pipe(
      Effect.delay(sharedCheck),
      Effect.repeat({ until: (info) => info.num_waiting <= (this.pull !== undefined && this.pull.open > 0 ? 1 : 0) }),
      Effect.map(() => breakWith({ reason: "Alone" }))
    )
  }

  /** Asks for as many messages as there is room for, one request at a time. */
  private pullMore(): void {
    const { connection, settings } = this.options
    const { intake, pull } = this
    if (pull === undefined || pull.open > 0 || !intake.isOpen || !connection.isUp()) return
    const batch = this.prefetch - intake.buffered
    if (batch <= 0) return
    const room = settings.prefetchBytes - intake.bufferedBytes
    pull.request({ batch, maxBytes: Math.max(room, connection.maxPayload() + overhead) })
  }

  private get prefetch(): number {
    return Math.max(1, Math.min(this.options.settings.prefetchMessages, this.options.request.maxUnfinished))
  }

  private nextEpoch(): number {
    return serial++
  }

  /** The first sequence that is not known to be finished. */
  private resumePosition(): number {
    let lowest = Math.max(this.resumeFrom ?? 1, this.intake.highest + 1)
    for (const sequence of this.intake.held.keys()) if (sequence < lowest) lowest = sequence
    return lowest
  }

  private readonly assign: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const { connection, consumer, request } = this.options
      this.epochs = Math.max(this.epochs + 1, now)
      const assignment: Assignment = {
        topic: request.topic.name,
        partition: 0,
        epoch: this.epochs,
        finish: (message) => {
          if (this.assignment === assignment && !this.isClosed) this.intake.finish(message)
        },
        settle: (messages) => settle(connection, this.intake, request.topic.name, messages),
        resume: () => {
          if (this.assignment === assignment) this.intake.resume()
        }
      }
      this.assignment = assignment
      this.intake.lane = consumer.assigned(assignment)
    })
  )

  /** The stream was deleted and made again: what is in hand belongs to none, and its sequences mean nothing. */
  private startOver(stream: Stream): Effect.Effect<void> {
    const lane = this.intake.lane
    return Effect.gen(this, function*() {
      yield* Effect.logWarning("The stream was made anew; reading it from its beginning").pipe(
        Effect.annotateLogs({ stream: stream.name, inHand: this.intake.held.size })
      )
      if (lane !== undefined) {
        yield* lane.close({ deadline: this.options.request.drainDeadline, finishQueued: true })
      }
      this.assignment = undefined
      this.intake.lane = undefined
      this.intake.reset()
      this.acks.clear()
      this.resumeFrom = 1
    })
  }
}

/** Each epoch of the process has an inbox of its own. */
let serial = 0
