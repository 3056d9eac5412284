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
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Settings } from "../NatsConfig.js"
import type { NatsRequestFailed } from "../NatsErrors.js"
import { Acks } from "./Acks.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import { Bodiless } from "./Bodiless.js"
import { bounded } from "./Bounded.js"
import type { Closing } from "./Closing.js"
import type { Connection } from "./Connection.js"
import * as DurableConsumer from "./DurableConsumer.js"
import type { HeldBack } from "./HeldBack.js"
import { Intake } from "./Intake.js"
import type { Lease, LeaseLost } from "./Lease.js"
import type { NatsStreams, Stream, StreamError } from "./NatsStreams.js"
import type { OfferLimit } from "./OfferLimit.js"
import { Progress } from "./Progress.js"
import type { Broken } from "./ReaderState.js"
import { ResumePoint } from "./ResumePoint.js"
import type { SettledRecord } from "./SettledRecord.js"
import { settle } from "./Settlement.js"
import { type Opened, Spell } from "./Spell.js"

/** How long the server may take to answer acknowledgements, in milliseconds; then they are sent again. */
const answerTimeout = 2_000

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

export class Session {
  readonly acks: Acks
  readonly intake: Intake
  readonly progress = new Progress()
  isClosed = false
  private readonly durable: string
  private spell: Spell | undefined
  private stream: Stream | undefined
  private assignment: Assignment | undefined
  private readonly resumePoint = new ResumePoint()
  private readonly bodiless = new Bodiless()
  /** Whether it was found out which messages others may have offered. */
  private isInformed = false
  /** Whether the server had something for this consumer that was not delivered yet, when it was opened last. */
  private isMoreLeft = false

  constructor(private readonly options: Options) {
    const { connection, isPartitioned, lease, limit, request } = options
    this.durable = options.config.durable_name!
    // What is settled before it is handled is recorded, and acknowledged only to be forgotten by the server.
    const onConfirmed = request.semantics === "at-least-once" ? (count: number) => this.tellSettled(count) : undefined
    this.acks = new Acks(connection, answerTimeout, onConfirmed)
    const source = isPartitioned ? { topic: request.topic.name, partition: lease.partition } : undefined
    this.intake = new Intake(
      connection,
      this.acks,
      source,
      lease.isValid,
      () => this.spell?.pullMore(),
      (messages) => limit.allowed(messages)
    )
  }

  /** Finds or makes stream and consumer, and gives the bus its assignment. */
  readonly open: Effect.Effect<Opened, StreamError | LeaseLost> = Effect.suspend(() => {
    const { api, opening, request, streams } = this.options
    return Effect.gen(this, function*() {
      this.intake.life.tell({ _tag: "Opens" })
      const stream = yield* streams.refresh(request.topic)
      const changedFrom = this.stream === undefined ? undefined : yield* this.changedFrom(stream, this.stream)
      const next = this.intake.life.tell({ _tag: "Found", changedFrom })
      if (next === "start-over") yield* this.startOver(stream)
      else if (next === "replace") yield* DurableConsumer.replaceUnanswering(api, stream, this.durable)
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
      this.isMoreLeft = info.num_pending > 0
      this.intake.isWhole = stream.subjects.length === 1 && stream.subjects[0] === this.options.config.filter_subject
      this.intake.isCounted = api.isAtLeast(2, 10)
      this.resumePoint.acknowledged(info.ack_floor.stream_seq)
      if (this.assignment === undefined) this.assign()
      return { stream, info }
    })
  }

  /** From which sequence on what is known of the stream is not true of this one; undefined where it is. */
  private changedFrom(stream: Stream, before: Stream): Effect.Effect<number | undefined, NatsRequestFailed> {
    const { highest, life } = this.intake
    if (stream.created !== before.created) return Effect.succeed(0)
    if (life.state.changedFrom !== undefined || stream.last >= highest) return Effect.succeed(undefined)
    return Effect.map(
      lastOf(this.options.api, stream.name, highest),
      (last) => last < highest ? last + 1 : undefined
    )
  }

  /** Before anything is read, the record of what is settled is ours: the former owner can record nothing any more. */
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

  /** The former owner told it when giving the partition back. Otherwise it is the limit that the former owner had reserved, or all that there is. */
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

  /** Reads until something breaks it. `onHealthy` is called when it gets so far. */
  readOn(opened: Opened, onHealthy: () => void): Effect.Effect<never, Broken | NatsRequestFailed> {
    const { acks, bodiless, intake, progress, resumePoint } = this
    return Effect.suspend(() => {
      const shared = { acks, bodiless, intake, progress, resumePoint, look: () => this.status() }
      const spell = new Spell(this.options, shared, opened)
      this.spell = spell
      return Effect.ensuring(
        spell.run(onHealthy),
        Effect.sync(() => {
          if (this.spell === spell) this.spell = undefined
        })
      )
    })
  }

  /** Whether acknowledgements of this partition go to the subject. */
  isOurAck(subject: string): boolean {
    return subject.startsWith("$JS.ACK.") && subject.includes(`.${this.durable}.`)
  }

  /** How the partition stands; undefined while it is not assigned. */
  status(): PartitionStatus | undefined {
    const { assignment, intake, stream } = this
    if (assignment === undefined || stream === undefined) return undefined
    const { epoch, partition, topic } = assignment
    const { position, watermark } = intake.standing
    // The stream's end counts only where the server said that something of it is left for this consumer: the rest is other partitions'.
    const end = Math.max(position, intake.highest + 1, intake.knownEnd ?? (this.isMoreLeft ? stream.last + 1 : 0))
    return { topic, partition, epoch, end, ...this.progress.see(position, watermark) }
  }

  private assign(): void {
    const { consumer, lease, request, settled } = this.options
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
        if (this.assignment === assignment) this.intake.resume()
      },
      isOwned: lease.isValid
    }
    this.assignment = assignment
    this.intake.lane = consumer.assigned(assignment)
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
  drain(closing: Closing): Effect.Effect<void> {
    return Effect.zipRight(
      Effect.suspend(() => this.closeLane(this.options.request.drainDeadline)),
      this.confirm(closing)
    )
  }

  /** What was finished until now is confirmed by the server. */
  confirm(closing: Closing): Effect.Effect<void> {
    const { client } = this.options.connection
    // A connection that is closed for good brings no answer.
    return Effect.suspend(() => closing.within(this.acks.confirmed, client.isClosed() ? 0 : Infinity)).pipe(
      Effect.flatMap((confirmed) =>
        Option.isSome(confirmed)
          ? Effect.void
          : Effect.logWarning("The server did not confirm the last acknowledgements: some messages may come again")
      ),
      Effect.zipRight(Effect.sync(() => {
        this.isClosed = true
      }))
    )
  }

  /** The partition may be another's: handlers are interrupted, and nothing is acknowledged any more. */
  readonly fence: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    this.acks.clear()
    return this.closeLane(Duration.zero)
  })

  /** Whether no handler runs any more. The bus has closed the lane before, and goes on without handlers that can't be interrupted. */
  readonly isQuiet: Effect.Effect<boolean> = Effect.suspend(() =>
    Effect.map(bounded(this.closeLane(Duration.zero), quietWithin), Option.isSome)
  )

  private closeLane(deadline: Duration.Duration): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.intake.lane === undefined
        ? Effect.void
        : Effect.asVoid(this.intake.lane.close({ deadline, finishQueued: false }))
    )
  }

  /**
   * The stream was deleted and made again, or has lost its end and got another one: what is in hand belongs to none, and the sequences
   * from a certain one on mean nothing.
   */
  private startOver(stream: Stream): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    const { intake } = this
    const { lease, limit, request } = this.options
    return Effect.gen(this, function*() {
      const from = intake.life.state.changedFrom ?? 0
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
    })
  }
}

/** A lane in which no handler runs is closed at once. In milliseconds. */
const quietWithin = 50

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
