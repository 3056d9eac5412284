import type * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { InvalidConfiguration, ReplayUnsupported } from "../EventBusError.js"
import type { DecodeError, HandlerTimeout, ReadError, UnknownEventType } from "../EventBusError.js"
import * as RateLimit from "../RateLimit.js"
import type { Options, Report } from "../Replay.js"
import { ReplayFailed } from "../Replay.js"
import type * as Transport from "../Transport.js"
import { gone, type Handler } from "./attempt.js"
import { Counters } from "./counters.js"
import type { Behaviour, Flight, Subscriber } from "./flight.js"
import { endScope } from "./home.js"
import { Intake } from "./intake.js"
import * as Logging from "./logging.js"
import { Quota } from "./quota.js"
import { Ration } from "./ration.js"
import type { Environment } from "./subscription.js"

/** How many partitions are read at once. Each of them keeps its broker's last answer in memory. */
const partitionsAtOnce = 8

/** The group that handlers see in a replayed message. */
const group = "replay"

/** What a replay counts, and the first failure, which ends the replay. */
interface State<E> {
  readonly report: { -readonly [K in keyof Report]: Report[K] }
  readonly ended: Deferred.Deferred<never, ReplayFailed<E>>
  failure: ReplayFailed<E> | undefined
  /** Thousands may be left out. */
  readonly ration: Ration
}

/**
 * Reads what is asked for, has it handled by slots of its own, and ends when all is done or one has failed.
 *
 * @internal
 */
export const run = <E, R>(
  environment: Omit<Environment, "circuits" | "onClosed" | "onOpened">,
  topic: Transport.TopicSpec,
  handler: Handler<E>,
  options: Options
): Effect.Effect<Report, ReplayFailed<E> | ReplayUnsupported | ReadError, R | Scope.Scope> =>
  Effect.gen(function*() {
    const { config, mailboxes, observer, transport } = environment
    if (transport.read === undefined) {
      return yield* new ReplayUnsupported({ topic: topic.name, transport: transport.name })
    }
    const found = yield* Logging.unbreakable(
      transport.read({ topic, from: options.from ?? "earliest", to: options.to ?? "now" })
    )
    const partitions = yield* wanted(topic.name, found, options.partitions)
    const state: State<E> = {
      report: { read: 0, handled: 0, skipped: 0, undecodable: 0, unknownType: 0, tombstones: 0 },
      ended: yield* Deferred.make<never, ReplayFailed<E>>(),
      failure: undefined,
      ration: new Ration(
        (left) =>
          Logging.warning(`${left} more messages were left out of the replay of ${topic.name}`, {
            topic: topic.name,
            left
          }),
        () => {}
      )
    }
    yield* Effect.addFinalizer(() => state.ration.tell)
    const name = `${topic.name}/${group}`
    const { turns } = mailboxes.supervisor
    const subscriber: Subscriber = {
      name,
      group,
      semantics: "at-least-once",
      behaviour: behaviourOf(handler, state),
      home: yield* mailboxes.supervisor.home<R>(name),
      counters: new Counters(),
      observer,
      time: () => turns.time()
    }
    const book = mailboxes.open(subscriber)
    yield* Effect.addFinalizer(() => book.shutdown)
    const settings = {
      subscriber,
      mailboxes: book,
      incoming: handler.incoming,
      bytes: new Quota(config.maxBytes),
      concurrency: options.concurrency === undefined ? undefined : new Quota(options.concurrency),
      rate: options.rate?.[RateLimit.TypeId],
      // The bound holds for all partitions that are read at once.
      maxUnfinished: Math.max(1, Math.floor(config.maxUnfinished / Math.min(partitionsAtOnce, partitions.length || 1))),
      nextTurn: undefined,
      isTurnAwaited: () => turns.isAwaited,
      settleFirst: undefined
    }
    const isWanted = (message: Transport.IncomingMessage): boolean => {
      state.report.read++
      if (options.aggregateId === undefined) return true
      if (handler.incoming.read(message).aggregateId === options.aggregateId) return true
      state.report.skipped++
      return false
    }
    const readOne = (partition: Transport.ReadPartition) => {
      const reading = new Reading(topic.name, partition.partition, () => state.failure === undefined)
      const lane = reading.lane = new Intake(reading, settings)
      return Stream.runForEachChunk(
        partition.messages,
        (chunk) => reading.takeAll(Chunk.toReadonlyArray(chunk).filter(isWanted))
      ).pipe(
        Effect.zipRight(
          lane.close({ deadline: config.closeDeadline, finishQueued: true, untilDone: true, goesOn: true })
        ),
        // The room that it waits for is for others.
        Effect.onError(() => lane.close({ deadline: Duration.zero, finishQueued: false, goesOn: true }))
      )
    }
    const all = Effect.forEach(partitions, readOne, { concurrency: partitionsAtOnce, discard: true }).pipe(
      Effect.flatMap(() =>
        state.failure === undefined ? Effect.succeed<Report>({ ...state.report }) : Effect.fail(state.failure)
      )
    )
    return yield* Effect.raceFirst(all, Deferred.await(state.ended))
  })

/** The assignment of a replay's lane, in place of a transport's. It settles nothing. */
class Reading implements Transport.Assignment {
  readonly epoch = 0
  lane!: Transport.Lane
  private goOn: (() => void) | undefined

  constructor(readonly topic: string, readonly partition: number, readonly isOwned: () => boolean) {}

  readonly finish = (): void => {}
  readonly settle = (): Effect.Effect<void> => Effect.void
  // Not at once: the caller, which has just made room, is in the middle of something.
  readonly resume = (): void => queueMicrotask(() => this.goOn?.())

  /** Offers messages, and waits while there is no room. */
  takeAll(all: ReadonlyArray<Transport.IncomingMessage>): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      let rest = all
      this.goOn = () => {
        rest = rest.slice(this.lane.offer(rest))
        // A replay that has failed takes nothing more, and is about to end.
        if (rest.length > 0) return
        this.goOn = undefined
        resume(Effect.void)
      }
      this.goOn()
      return Effect.sync(() => {
        this.goOn = undefined
      })
    })
  }
}

/** Nothing is retried. The first failure ends the replay, and messages that can't be decoded are left out. */
const behaviourOf = <E>(handler: Handler<E>, state: State<E>): Behaviour => {
  const { report } = state

  const failed = (flight: Flight, cause: Cause.Cause<E | HandlerTimeout>): Effect.Effect<void> => {
    state.failure ??= new ReplayFailed<E>({
      position: flight.position,
      aggregateId: flight.aggregateId,
      report: { ...report },
      cause
    })
    flight.end("failed")
    return Effect.asVoid(Deferred.fail(state.ended, state.failure))
  }

  const leftOut = (flight: Flight, which: "undecodable" | "unknownType" | "tombstones"): void => {
    report[which]++
    flight.end("skipped")
  }

  const unreadable = (flight: Flight, error: DecodeError | UnknownEventType): Effect.Effect<void> => {
    leftOut(flight, error._tag === "DecodeError" ? "undecodable" : "unknownType")
    const { aggregateId, envelope, position } = flight
    return state.ration.line(
      Logging.warning(`Left out of the replay: ${error.message}`, {
        ...position,
        aggregateId,
        eventId: envelope?.eventId,
        error: error._tag
      })
    )
  }

  const ended = (flight: Flight, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> => {
    if (Exit.isFailure(exit)) {
      return flight.undecodable === undefined ? failed(flight, exit.cause) : unreadable(flight, flight.undecodable)
    }
    if (exit.value === gone) return Effect.void
    report.handled++
    flight.end("handled")
    return Effect.void
  }

  return {
    receive: (flight, host) => {
      if (!flight.begin()) return Effect.void
      if (flight.isTombstone) return Effect.sync(() => leftOut(flight, "tombstones"))
      const error = handler.decode(flight)
      if (error !== undefined) return unreadable(flight, error)
      return Effect.flatMap(Effect.exit(Effect.suspend(() => handler.run(flight))), (exit) =>
        host.scope === undefined
          ? ended(flight, exit)
          : Effect.zipRight(endScope(host, exit), Effect.suspend(() => ended(flight, exit))))
    },
    // Handlers can't end the fiber. Only a defect of a Schema, of a finalizer or of this library does.
    giveUp: (flight, cause) => failed(flight, cause as Cause.Cause<never>)
  }
}

const wanted = (
  topic: string,
  found: ReadonlyArray<Transport.ReadPartition>,
  partitions: ReadonlyArray<number> | undefined
): Effect.Effect<ReadonlyArray<Transport.ReadPartition>, InvalidConfiguration> => {
  if (partitions === undefined) return Effect.succeed(found)
  const unknown = partitions.filter((number) => !found.some(({ partition }) => partition === number))
  return unknown.length > 0
    ? new InvalidConfiguration({ topic, issues: [`partitions: the topic has no ${unknown.join(", ")}`] })
    : Effect.succeed(found.filter(({ partition }) => partitions.includes(partition)))
}
