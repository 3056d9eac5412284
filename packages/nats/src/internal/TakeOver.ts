/**
 * Getting back what is outstanding, in order, before anything newer.
 *
 * JetStream delivers a message again only when its ack wait is over, and newer ones in the meantime; and it delivers
 * those whose time is over, or that were refused (`-NAK`), before newer ones and in the order they came back. So at the
 * start of each epoch all that is outstanding and not in hand is refused, in stream order, and newer messages wait.
 * Where it is too much to refuse one by one, a short ack wait makes the server do it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { NatsRequestFailed } from "../NatsErrors.js"
import type { Acks } from "./Acks.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import { bounded } from "./Bounded.js"
import type { Connection } from "./Connection.js"
import * as ConsumerWatch from "./ConsumerWatch.js"
import { shortAckWait } from "./DurableConsumer.js"
import type { Intake } from "./Intake.js"
import type { Pull } from "./Pull.js"
import { hasGap } from "./ReaderState.js"
import { isNoResponders } from "./Replies.js"

/** More sequences than this are not refused one by one. */
const maxAnswered = 20_000

/** How often a dead reader may swallow what was got back. */
const maxRounds = 50

/** How often in a row nothing of what is outstanding may come. */
const maxFruitless = 3

/** How often it is asked again what is outstanding while handlers finish some of it. */
const maxLooks = 20

/** How many messages one request brings back. */
const maxBatch = 500

/** How long the server may be silent about a request that does not wait, in milliseconds; then it has nothing to say about it. */
const drainTimeout = 1_000

/**
 * How long a request waits where the server said nothing to one that does not: 2.11.0 to 2.11.10, 2.12.0 and 2.12.1 answer those
 * only that got something.
 */
const shortWait = 500

export interface Context {
  readonly api: Api
  readonly connection: Connection
  readonly intake: Intake
  readonly pull: Pull
  readonly stream: string
  readonly durable: string
  /** How many bytes one request brings back; large messages come in several. 2.9 passes over the one that does not fit, so that comes in another round. */
  readonly maxBytes: number
  /** How long a request of a dead reader waits, in milliseconds. */
  readonly expires: number
  /** The settings to go back to after a short ack wait. */
  readonly config: ConsumerConfig
  /** Resolved when the request under way has ended. */
  readonly onEnd: { current: (() => void) | undefined }
  readonly acks: Pick<Acks, "confirmed" | "size">
  /** Waits until more may be held back. */
  readonly room?: Effect.Effect<void> | undefined
  /** Held while the server is asked for what is outstanding: so many partitions do that at once. */
  readonly turns?: Effect.Semaphore | undefined
  /** Told until when the consumer is paused; undefined: it is not, or not any more. */
  readonly onPaused?: ((until: string | undefined) => void) | undefined
}

/** How it ended: alone and complete, without some that will come later, or with another reader of the same consumer. */
export const run = (context: Context): Effect.Effect<"Alone" | "Incomplete" | "Shared", NatsRequestFailed> =>
  Effect.gen(function*() {
    const { intake } = context
    let info = yield* aloneOrNot(context)
    const isShared = info.num_waiting > 0
    intake.recover(info.delivered.stream_seq, isShared)
    intake.expected = info.delivered.consumer_seq + 1
    if (isShared) return "Shared"
    if (info.num_ack_pending > 0 && intake.held.size > 0) {
      const looked = yield* look(context)
      info = looked.info
      intake.expected = info.delivered.consumer_seq + 1
      if (looked.isInHand) {
        intake.complete(info.delivered.stream_seq)
        return "Alone"
      }
    }
    let fruitless = 0
    for (let round = 0; info.num_ack_pending > 0; round++) {
      if (round === maxRounds || fruitless === maxFruitless) {
        yield* Effect.logWarning("Outstanding messages did not come back; they come when their ack wait is over")
        return "Incomplete"
      }
      const missing = intake.missing(info.ack_floor.stream_seq, info.delivered.stream_seq, maxAnswered + 1)
      if (missing.length === 0) break
      intake.recover(info.delivered.stream_seq)
      const refused = missing.length <= maxAnswered && (yield* refuse(context, info, missing))
      if (!refused) yield* expire(context, info)
      yield* drain(context, info.num_ack_pending)
      const looked = yield* look(context)
      info = looked.info
      intake.expected = info.delivered.consumer_seq + 1
      // What a dead reader's request has swallowed, or the server did not give back, is refused again.
      if (!hasGap(intake.life.state) && looked.isInHand) break
      fruitless = hasGap(intake.life.state) || intake.recovered > 0 ? 0 : fruitless + 1
    }
    intake.complete(info.delivered.stream_seq)
    return "Alone"
  })

const inspect = (context: Context): Effect.Effect<ConsumerInfo, NatsRequestFailed> =>
  ConsumerWatch.untilResumed(
    Effect.suspend(() => context.api.consumerInfo(context.stream, context.durable)),
    (until) => context.onPaused?.(until)
  )

/**
 * Whether all that is outstanding is in hand. Handlers go on meanwhile: what they finish while the server is asked may be outstanding
 * or not, and could stand for as many that are missing. Then it is asked again, when it has all acknowledgements.
 */
const look = (
  context: Context,
  looks = maxLooks
): Effect.Effect<{ readonly info: ConsumerInfo; readonly isInHand: boolean }, NatsRequestFailed> =>
  Effect.gen(function*() {
    const { acks, intake } = context
    yield* bounded(acks.confirmed, drainTimeout)
    const before = Array.from(intake.held.keys())
    const unconfirmed = acks.size
    const info = yield* inspect(context)
    const { ack_floor: floor, delivered, num_ack_pending: outstanding } = info
    const isKnown = (sequence: number) => sequence > floor.stream_seq && sequence <= delivered.stream_seq
    const known = before.filter(isKnown)
    if (outstanding <= known.filter((sequence) => intake.held.has(sequence)).length) return { info, isInHand: true }
    if (outstanding > known.length + unconfirmed || looks === 0) return { info, isInHand: false }
    return yield* look(context, looks - 1)
  })

/** The requests of a dead reader end by themselves; those of a living one don't. */
const aloneOrNot = (context: Context): Effect.Effect<ConsumerInfo, NatsRequestFailed> =>
  Effect.gen(function*() {
    const until = performance.now() + context.expires + 500
    while (true) {
      const info = yield* inspect(context)
      if (info.num_waiting === 0 || performance.now() > until) return info
      yield* Effect.sleep(250)
    }
  })

const nak = new TextEncoder().encode("-NAK")

/**
 * What is finished here is refused like the rest, and acknowledged when it has come again: only then it is known to be the same
 * message. `false` when the server did not answer as expected.
 */
const refuse = (
  context: Context,
  info: ConsumerInfo,
  sequences: ReadonlyArray<number>
): Effect.Effect<boolean> =>
  Effect.async<boolean>((resume) => {
    const { connection, durable, stream } = context
    // Only the sequence counts, and that the delivery is one that can be outstanding.
    const subject = (sequence: number) =>
      `$JS.ACK.${stream}.${durable}.1.${sequence}.${info.delivered.consumer_seq}.1.0`
    const token = connection.replies.expect({
      onReply: (reply) => resume(Effect.succeed(reply !== undefined && !isNoResponders(reply)))
    })
    const confirmation = connection.replies.subject(token)
    const last = sequences.length - 1
    for (let i = 0; i <= last; i++) {
      connection.client.publish(subject(sequences[i]!), nak, i === last ? confirmation : undefined)
    }
    return Effect.sync(() => connection.replies.forget(token))
  }).pipe((answered) => bounded(answered, drainTimeout), Effect.map(Option.getOrElse(() => false)))

/**
 * The first check comes 100 ms after the change of the ack wait. Where it can't be put back reading begins again, which repairs
 * it; so does whoever reads next, where this is interrupted.
 */
const expire = (context: Context, info: ConsumerInfo): Effect.Effect<void, NatsRequestFailed> => {
  const put = (ackWait: number) => context.api.putConsumer(context.stream, { ...info.config, ack_wait: ackWait })
  return put(shortAckWait * 1e6).pipe(
    Effect.zipRight(
      // What is in hand here need not come again.
      Effect.sync(() => context.intake.signalWorking()).pipe(
        Effect.zipRight(Effect.sleep(100)),
        Effect.repeatN(5)
      )
    ),
    Effect.zipRight(put(context.config.ack_wait!)),
    Effect.asVoid
  )
}

/** Pulls until all that is outstanding has come, or the server has nothing older than what is new. */
const drain = (context: Context, outstanding: number): Effect.Effect<void, NatsRequestFailed> =>
  Effect.gen(function*() {
    const { intake, pull } = context
    let waits: "Not" | number = "Not"
    while (intake.recovered < outstanding && intake.newer === 0 && !hasGap(intake.life.state)) {
      if (context.room !== undefined) yield* context.room
      const batch = Math.min(maxBatch, outstanding - intake.recovered)
      const ended = yield* Deferred.make<void>()
      context.onEnd.current = () => Deferred.unsafeDone(ended, Effect.void)
      const request = Effect.suspend(() => {
        pull.request({ batch, maxBytes: context.maxBytes, waits })
        return untilSilent(pull, Deferred.await(ended))
      })
      const answered = yield* context.turns === undefined ? request : context.turns.withPermits(1)(request)
      context.onEnd.current = undefined
      if (Option.isNone(answered) && waits === "Not" && pull.received === 0) {
        waits = shortWait
        continue
      }
      // Its end is late, or got lost: what is outstanding is not known, and no other request can be made. It all begins again.
      if (Option.isNone(answered)) {
        return yield* new NatsRequestFailed({ subject: pull.subject, reason: "Timeout" })
      }
      if (!pull.isTooSmall && (pull.received === 0 || pull.received < pull.batch && !pull.isFull)) return
    }
  })

/** Where messages are large, or the way is slow, they may take as long as they come. */
const untilSilent = (pull: Pull, ended: Effect.Effect<void>): Effect.Effect<Option.Option<void>> =>
  Effect.gen(function*() {
    const answered = yield* bounded(ended, pull.heardAt + drainTimeout - performance.now())
    if (Option.isSome(answered)) return answered
    // Where the process stood still, more may be in the socket than nothing.
    yield* afterInput
    if (pull.open > 0 && performance.now() >= pull.heardAt + drainTimeout) return answered
    return yield* untilSilent(pull, ended)
  })

/** Ends when what the socket has was read. */
const afterInput = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
