/**
 * The time that this instance owns one partition (or the only one of a topic), with its durable consumer: spells of
 * reading, one after the other, each of which first gets back what is outstanding and then reads on.
 */
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import type * as Observer from "@effect-eventbus/core/Observer"
import type {
  Assignment,
  Consumer,
  IncomingMessage,
  PartitionStatus,
  SubscribeRequest
} from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import type { NatsRequestFailed } from "../NatsErrors.js"
import type { NatsStreams, Stream, StreamError } from "../NatsStreams.js"
import { Acks } from "./Acks.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import { bounded } from "./Bounded.js"
import type { Connection } from "./Connection.js"
import * as ConsumerWatch from "./ConsumerWatch.js"
import * as DurableConsumer from "./DurableConsumer.js"
import type { HeldBack } from "./HeldBack.js"
import { Intake } from "./Intake.js"
import type { Lease, LeaseLost } from "./Lease.js"
import type { OfferLimit } from "./OfferLimit.js"
import { Progress } from "./Progress.js"
import { type Broken, expiry, Pull } from "./Pull.js"
import { ResumePoint } from "./ResumePoint.js"
import type { SettledRecord } from "./SettledRecord.js"
import { settle } from "./Settlement.js"
import * as TakeOver from "./TakeOver.js"

/** How often it is looked at whether another reader of the same consumer is still there. */
const sharedCheck = "5 seconds"

/** How long the server may take to answer acknowledgements, in milliseconds; then they are sent again. */
const answerTimeout = 2_000

/** After so many requests in a row that nothing at all has answered, not even a heartbeat, something is done about the consumer. */
const maxUnanswered = 2

/** How often it is told that messages are gone. */
const vanishedInterval = "10 seconds"

/** Beside a message's body the server counts its subjects and headers towards the bytes of a request. */
const overhead = 70_000

export interface Options {
  readonly connection: Connection
  readonly api: Api
  readonly streams: NatsStreams
  readonly settings: Settings
  readonly request: SubscribeRequest
  readonly consumer: Consumer
  readonly observer: Observer.Service
  /** The consumer's settings; its filter is the partition's subjects. */
  readonly config: ConsumerConfig
  readonly isPartitioned: boolean
  readonly lease: Lease
  readonly limit: OfferLimit
  readonly settled: SettledRecord
  /** What the take-overs of all its partitions hold back. */
  readonly heldBack: HeldBack
  /** So many of its partitions ask for what they need to begin, or get back what is outstanding, at once: renewals of leases go between. */
  readonly opening: Effect.Semaphore
  /** How many partitions of the subscription share what may be fetched ahead. */
  readonly sharers: () => number
}

/** What was found when an epoch begins. */
export interface Opened {
  readonly stream: Stream
  readonly info: ConsumerInfo
}

export class Session {
  readonly acks: Acks
  readonly intake: Intake
  readonly progress = new Progress()
  isClosed = false
  private readonly durable: string
  private pull: Pull | undefined
  private stream: Stream | undefined
  private assignment: Assignment | undefined
  private readonly resumePoint = new ResumePoint()
  /** How many requests in a row nothing has answered. */
  private unanswered = 0
  /** Whether it was found out which messages others may have offered. */
  private isInformed = false
  private readonly vanished = Effect.runSync(Queue.sliding<void>(1))
  /** From which sequence on the stream is another one, until all has begun anew. */
  private changedFrom: number | undefined

  constructor(private readonly options: Options) {
    const { connection, isPartitioned, lease, request } = options
    this.durable = options.config.durable_name!
    // What is settled before it is handled is recorded, and acknowledged only to be forgotten by the server.
    const onConfirmed = request.semantics === "at-least-once" ? (count: number) => this.tellSettled(count) : undefined
    this.acks = new Acks(connection, answerTimeout, onConfirmed)
    const source = isPartitioned ? { topic: request.topic.name, partition: lease.partition } : undefined
    this.intake = new Intake(connection, this.acks, source, lease.isValid, () => this.pullMore())
  }

  /** Finds or makes stream and consumer, and gives the bus its assignment. */
  readonly open: Effect.Effect<Opened, StreamError | LeaseLost> = Effect.suspend(() => {
    const { opening, request, streams } = this.options
    return Effect.gen(this, function*() {
      const stream = yield* streams.refresh(request.topic)
      if (this.stream !== undefined) yield* this.noticeChange(stream, this.stream)
      if (this.changedFrom !== undefined) yield* this.startOver(stream, this.changedFrom)
      else if (this.unanswered >= maxUnanswered) yield* this.unanswering(stream)
      return yield* opening.withPermits(1)(this.openConsumer(stream))
    })
  })

  private openConsumer(stream: Stream): Effect.Effect<Opened, StreamError | LeaseLost> {
    const { api, request, settings } = this.options
    return Effect.gen(this, function*() {
      const info = yield* DurableConsumer.ensure(
        api,
        settings,
        stream,
        this.options.config,
        this.resumePoint.position(this.intake.highest, this.intake.held.keys()),
        () => Effect.void
      )
      if (request.semantics === "at-most-once") yield* this.beginRecord(stream, info)
      if (!this.isInformed) {
        this.intake.offeredBefore = yield* this.offeredBefore(stream, info)
        yield* this.options.limit.begin(stream, Math.max(this.intake.offeredBefore, info.delivered.stream_seq))
        // What was finished before, by whomever, was in the stream.
        if (this.intake.latest === 0) this.intake.latest = stream.lastAt
        this.isInformed = true
      }
      this.stream = stream
      this.intake.isWhole = stream.subjects.length === 1 && stream.subjects[0] === this.options.config.filter_subject
      this.intake.isCounted = api.isAtLeast(2, 10)
      this.resumePoint.acknowledged(info.ack_floor.stream_seq)
      if (this.assignment === undefined) this.assign()
      return { stream, info }
    })
  }

  /** Whether what is known of the stream's sequences is true of this one. Once it is not, all begins anew, however often that fails. */
  private noticeChange(stream: Stream, before: Stream): Effect.Effect<void, NatsRequestFailed> {
    const { intake } = this
    const from = (sequence: number) => {
      this.changedFrom = Math.min(sequence, this.changedFrom ?? sequence)
    }
    return Effect.gen(this, function*() {
      if (stream.created !== before.created) from(0)
      else if (intake.rewrittenFrom !== undefined) from(intake.rewrittenFrom)
      else if (stream.last < intake.highest) {
        const last = yield* lastOf(this.options.api, stream.name, intake.highest)
        if (last < intake.highest) from(last + 1)
      }
    })
  }

  /** What is settled stands in the bucket, and whoever had the partition before can record nothing any more, before anything is read. */
  private beginRecord(stream: Stream, info: ConsumerInfo): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    const { settled } = this.options
    const subject = { stream: stream.created, consumer: info.created ?? "" }
    return settled.isOf(subject) ? Effect.void : settled.begin(subject, this.intake)
  }

  /**
   * Up to which sequence messages may have been offered to anybody here; undefined where nobody knows. The server counts
   * deliveries, but when it is killed it forgets the last of them.
   */
  get offered(): number | undefined {
    return this.isInformed
      ? Math.max(this.intake.offeredBefore, this.intake.highest)
      : this.options.lease.offeredBefore
  }

  /** Whoever had the partition has told it when giving it back; else it is what that one had reserved, or all that there is. */
  private offeredBefore(stream: Stream, info: ConsumerInfo): Effect.Effect<number, NatsRequestFailed> {
    const { api, lease, limit } = this.options
    const told = lease.offeredBefore
    return Effect.gen(function*() {
      const recorded = yield* limit.recorded(stream)
      // Without a bucket nobody could tell.
      if (told !== undefined && (told > 0 || info.delivered.consumer_seq === 0)) return told
      const { last_seq } = (yield* api.streamInfo(stream.name)).state
      return recorded === undefined ? last_seq : Math.min(recorded, last_seq)
    })
  }

  /** How the partition stands; undefined while it is not assigned. */
  status(): PartitionStatus | undefined {
    const { assignment, intake, stream } = this
    if (assignment === undefined || stream === undefined) return undefined
    const { epoch, partition, topic } = assignment
    const { position, watermark } = intake.standing
    const end = Math.max(stream.last + 1, intake.highest + 1, intake.knownEnd)
    return { topic, partition, epoch, end, ...this.progress.see(position, watermark) }
  }

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
      this.progress.healthy()
      yield* Effect.forkScoped(this.options.limit.raising(() => this.intake.resume()))
      const { api, config: wanted } = this.options
      yield* Effect.forkScoped(
        ConsumerWatch.run({
          api,
          stream: opened.stream,
          wanted,
          onBroken: breakWith,
          onPaused: this.progress.paused,
          intake: this.intake
        })
      )
      yield* Effect.forkScoped(this.tellVanished)
      this.intake.flow()
      const watch = () => this.watch(breakWith)
      connection.pulse.add(watch)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.pulse.delete(watch)))
      if (this.intake.isShared) {
        yield* Effect.logWarning("Another process reads from the same consumer: order per aggregate is not kept").pipe(
          Effect.annotateLogs("ackWait", settings.ackWait)
        )
        yield* Effect.forkScoped(this.untilAlone(opened, breakWith))
      }
      return yield* Deferred.await(broken)
    }))
  }

  /** What the lane's finished messages and the server's silence need from time to time. */
  private watch(breakWith: (reason: Broken) => void): void {
    const now = performance.now()
    this.acks.retry(now)
    this.status()
    if (this.pull?.isSilent(now) === true) breakWith({ reason: "Silence", detail: "no heartbeats" })
    else this.pullMore()
    if (this.intake.vanished > 0) Queue.unsafeOffer(this.vanished, undefined)
  }

  /** Says that messages are gone, once in a while. */
  private readonly tellVanished: Effect.Effect<never> = Effect.suspend(() =>
    Queue.take(this.vanished).pipe(
      Effect.zipRight(Effect.suspend(() => {
        const { isWhole, vanished } = this.intake
        this.intake.vanished = 0
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

  private recover(
    opened: Opened,
    breakWith: (reason: Broken) => void
  ): Effect.Effect<void, NatsRequestFailed, Scope.Scope> {
    const { api, connection, settings } = this.options
    const { durable } = this
    const expires = expiry(settings.leaseDuration)
    return Effect.gen(this, function*() {
      this.resumePoint.isComplete = false
      this.acks.forgetAbove(opened.info.delivered.stream_seq)
      this.intake.forgetAbove(opened.info.delivered.stream_seq)
      yield* bounded(this.acks.confirmed, settings.requestTimeout)
      const gap = { seen: false }
      const onEnd: TakeOver.Context["onEnd"] = { current: undefined }
      let isRecovering = true
      const pull = yield* Effect.acquireRelease(
        Effect.sync(() =>
          this.pull = new Pull(
            connection,
            `${settings.apiPrefix}.CONSUMER.MSG.NEXT.${opened.stream.name}.${durable}`,
            serial++,
            expires,
            {
              onMessage: (message, position, reply) => {
                const isNext = this.intake.receive(message, position, reply)
                if (this.intake.rewrittenFrom !== undefined) return breakWith({ reason: "Rewritten" })
                if (isNext) return
                gap.seen = true
                this.resumePoint.isComplete = false
                if (!isRecovering) breakWith({ reason: "Gap" })
              },
              onEnd: () => isRecovering ? onEnd.current?.() : this.pullMore(),
              onBroken: breakWith
            }
          )
        ),
        (pull) =>
          Effect.sync(() => {
            if (pull.hasHeard) this.unanswered = 0
            else if (pull.isUnanswered(performance.now())) this.unanswered++
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
        maxBytes: this.maxBytes,
        expires,
        config: this.options.config,
        onEnd,
        acks: this.acks,
        room: this.options.heldBack.room(this),
        turns: this.options.opening,
        onPaused: this.progress.paused,
        gap
      }).pipe(Effect.ensuring(Effect.sync(() => this.options.heldBack.done(this))))
      isRecovering = false
      if (result !== "Alone") return
      if (gap.seen) return breakWith({ reason: "Gap" })
      this.resumePoint.recovered(opened.info.delivered.stream_seq)
    })
  }

  private untilAlone(opened: Opened, breakWith: (reason: Broken) => void): Effect.Effect<void> {
    const { api } = this.options
    return Effect.suspend(() => api.consumerInfo(opened.stream.name, this.durable)).pipe(
      Effect.map((info) => info.num_waiting <= (this.pull !== undefined && this.pull.open > 0 ? 1 : 0)),
      // Nobody else would ask again.
      Effect.catchAll((failure) =>
        Effect.as(Effect.logDebug("The readers of the consumer could not be counted", failure.message), false)
      ),
      Effect.delay(sharedCheck),
      Effect.repeat({ until: (isAlone) => isAlone }),
      Effect.map(() => breakWith({ reason: "Alone" }))
    )
  }

  /** Asks for as many messages as there is room for, one request at a time. */
  private pullMore(): void {
    const { connection } = this.options
    const { intake, pull } = this
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
    const room = settings.prefetchBytes / sharers() - this.intake.bufferedBytes
    return Math.max(Math.floor(room), connection.maxPayload() + overhead)
  }

  private get prefetch(): number {
    const { request, settings, sharers } = this.options
    return Math.max(1, Math.min(Math.ceil(settings.prefetchMessages / sharers()), request.maxUnfinished))
  }

  private assign(): void {
    const { consumer, lease, limit, request, settled } = this.options
    const topic = request.topic.name
    const { partition } = lease
    const owned = Effect.suspend(() =>
      this.assignment === assignment && lease.isValid()
        ? Effect.void
        : new SettlementFailed({ topic, partition, isRetryable: false, cause: "the lease of the partition has ended" })
    )
    const assignment: Assignment = {
      topic,
      partition,
      epoch: lease.epoch(),
      // What another may have in hand already is not ours to acknowledge: it comes to that one.
      finish: (message) => {
        if (this.assignment === assignment && !this.isClosed && lease.isValid()) this.intake.finish(message)
      },
      settle: (messages) =>
        Effect.map(
          settle(
            settled,
            this.intake,
            owned,
            topic,
            partition,
            messages,
            isVolatile(this.stream) ? this.acknowledge : undefined
          ),
          () => this.tellSettled(messages.length)
        ),
      resume: () => {
        if (this.assignment !== assignment) return
        limit.resumed()
        this.intake.resume()
      },
      isOwned: lease.isValid
    }
    this.assignment = assignment
    this.intake.lane = limit.guard(consumer.assigned(assignment))
  }

  private tellSettled(count: number): void {
    const { assignment, options: { observer, request: { group } } } = this
    if (observer.event === undefined || assignment === undefined) return
    const { epoch, partition, topic } = assignment
    observer.event({ _tag: "Settled", topic, group, partition, epoch, count })
  }

  private readonly acknowledge = (messages: ReadonlyArray<IncomingMessage>): Effect.Effect<void> =>
    Effect.suspend(() => {
      for (const { offset } of messages) {
        const reply = this.intake.held.get(offset)?.reply
        // Whose delivery the server has forgotten can't be acknowledged: it comes again, or its time is over.
        if (reply === undefined) return Effect.never
        this.acks.add(offset, reply)
      }
      return this.acks.confirmed
    })

  /** Gives nothing more to the lane. */
  stop(): void {
    this.intake.stop()
  }

  /** The partition is given away in order: what runs may end, what waits is left to the next owner. */
  readonly drain: Effect.Effect<void> = Effect.suspend(() =>
    this.closeLane(this.options.request.drainDeadline).pipe(
      Effect.zipRight(this.confirm)
    )
  )

  /** What was finished until now is confirmed by the server. */
  readonly confirm: Effect.Effect<void> = Effect.suspend(() =>
    this.options.connection.closing.within(this.acks.confirmed).pipe(
      Effect.flatMap((confirmed) =>
        Option.isSome(confirmed)
          ? Effect.void
          : Effect.logWarning("The server did not confirm the last acknowledgements: some messages may come again")
      ),
      Effect.zipRight(Effect.sync(() => {
        this.isClosed = true
      }))
    )
  )

  /** The partition may be another's: handlers are interrupted, and nothing is acknowledged any more. */
  readonly fence: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    this.acks.clear()
    return this.closeLane(Duration.zero)
  })

  private closeLane(deadline: Duration.Duration): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.intake.lane === undefined
        ? Effect.void
        : Effect.asVoid(this.intake.lane.close({ deadline, finishQueued: false }))
    )
  }

  /** The server knows the consumer, and nothing answers its requests. */
  private unanswering(stream: Stream): Effect.Effect<void, NatsRequestFailed> {
    this.unanswered = 0
    return DurableConsumer.replaceUnanswering(this.options.api, stream, this.durable)
  }

  /**
   * The stream was deleted and made again, or has lost its end and got another one: what is in hand belongs to none, and the sequences
   * from this one on mean nothing.
   */
  private startOver(stream: Stream, from: number): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    const { intake } = this
    const { lease, limit, request } = this.options
    return Effect.gen(this, function*() {
      const { lane } = intake
      if (lane !== undefined) {
        yield* Effect.logWarning(
          from === 0
            ? "The stream was made anew; reading it from its beginning"
            : "The stream has lost its last messages, and others can have their sequences: reading begins again"
        ).pipe(Effect.annotateLogs({ stream: stream.name, inHand: intake.held.size, ...(from === 0 ? {} : { from }) }))
        yield* lane.close({ deadline: request.drainDeadline, finishQueued: true })
        // What comes after may fail, and is then tried again.
        intake.lane = undefined
        this.assignment = undefined
      }
      yield* lease.renewEpoch
      // One that has lost its end has what was handled before, or has its sequences.
      const handled = from === 0 ? 0 : Math.max(stream.last, intake.highest)
      yield* limit.begin(stream, handled)
      intake.reset(from)
      this.acks.clear()
      intake.offeredBefore = handled
      this.resumePoint.startOver()
      this.unanswered = 0
      this.changedFrom = undefined
    })
  }
}

/** Whether what loses a consumer's state has lost the stream's messages as well. */
const isVolatile = (stream: Stream | undefined): boolean => stream?.storage === "memory" && stream.replicas === 1

/** How often a stream that seems to have lost its end is looked at, and how long between. */
const looks = 4
const betweenLooks = "500 millis"

/** The last sequence of a stream that has had this one. A leader that was just elected can know less for a while (before 2.11). */
const lastOf = (api: Api, stream: string, had: number): Effect.Effect<number, NatsRequestFailed> =>
  api.streamInfo(stream).pipe(
    Effect.map(({ state }) => state.last_seq),
    Effect.delay(betweenLooks),
    Effect.repeat({ times: looks - 1, until: (last) => last >= had })
  )

/** Each spell of the process has an inbox of its own. */
let serial = 0
