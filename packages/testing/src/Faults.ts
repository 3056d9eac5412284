/**
 * Faults around any transport, and around handlers: what a broker, a network and a user's code do on a bad day, with rates
 * and a seed. The guarantees hold under all faults except `duplicate`, which no transport of this library does.
 *
 * Every decision is drawn from the seed, in the order in which things happen. On the memory transport under `VirtualTime`
 * nothing else is random, so the same seed makes the same run.
 *
 * @since 0.1.0
 */
import { PublishFailed } from "@effect-eventbus/core/EventBusError"
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import * as Transport from "@effect-eventbus/core/Transport"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { FaultLane, keyOf } from "./internal/faultLane.js"
import * as FaultStore from "./internal/faultStore.js"
import * as Prng from "./Prng.js"

/**
 * How likely something takes longer (0 to 1), and how much longer at most.
 *
 * @since 0.1.0
 * @category options
 */
export interface Delay {
  readonly rate: number
  readonly max: Duration.DurationInput
}

/**
 * Rates are probabilities between 0 and 1. A fault without a rate does not happen. The faults of publishing are also those of writing to a
 * group's store.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  readonly seed: number
  /** Per message: it is refused (`not-written`), together with the later messages of its aggregate in the same call. */
  readonly failPublish?: number | undefined
  /** Per message: it is written, and the answer is lost (`unknown`). */
  readonly loseReceipt?: number | undefined
  /** Per call of publish. */
  readonly delayPublish?: Delay | undefined
  /** Per batch of deliveries. */
  readonly delayDelivery?: Delay | undefined
  /** Per batch of deliveries: messages of different aggregates change places. The messages of one aggregate keep their order. */
  readonly reorder?: number | undefined
  /**
   * Per message: the broker forgets that it is finished, so the next take-over brings it again. If the transport settles
   * positions, nothing above the message can be settled until then, so cut the connection now and then.
   */
  readonly dropAck?: number | undefined
  /** Per settlement of at-most-once messages: the broker settles them, and its answer is lost. */
  readonly loseSettlement?: number | undefined
  /**
   * Per at-least-once message: it is handed over twice in a row, the second time as a possible duplicate. No transport of this
   * library does that within one epoch. Use it for handlers that have to bear duplicates.
   */
  readonly duplicate?: number | undefined
}

/**
 * The faults that were injected so far.
 *
 * @since 0.1.0
 * @category models
 */
export interface Counts {
  failedPublishes: number
  lostReceipts: number
  delays: number
  reorders: number
  droppedAcks: number
  lostSettlements: number
  duplicates: number
  cuts: number
  /** At-most-once messages that lanes reported as lost when a partition was taken away. */
  reportedLost: number
}

/**
 * Counts the faults, cuts the connection and kills.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly counts: Readonly<Counts>
  /**
   * Cuts the connection for a time. Publishing fails, running handlers are interrupted, the partitions go to other members
   * of the group if there are any; then the subscriptions join again. It returns when they stand.
   */
  readonly cut: (during: Duration.DurationInput) => Effect.Effect<void>
  /**
   * Acts as if the process were killed here. Nothing that this bus still does reaches the broker, and the broker gives its partitions
   * to other members. The fibers of the process can't be stopped from here: close its scope, and let its handlers do nothing any more.
   */
  readonly kill: Effect.Effect<void>
}

/**
 * The service that the fault layer adds to the transport: it counts, cuts and kills.
 *
 * @since 0.1.0
 * @category tags
 */
export class Faults extends Context.Tag("@effect-eventbus/testing/Faults")<Faults, Service>() {}

/**
 * The provided transport with faults.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: Options
): <E, R>(transport: Layer.Layer<Transport.Transport, E, R>) => Layer.Layer<Transport.Transport | Faults, E, R> =>
(transport) =>
  Layer.provide(
    Layer.unwrapEffect(Effect.map(
      Effect.flatMap(Transport.Transport, (inner) => make(inner, options)),
      (made) => Layer.merge(Layer.succeed(Transport.Transport, made.transport), Layer.succeed(Faults, made.faults))
    )),
    transport
  )

/** A subscription that can be cut off and joins again. */
interface Line {
  readonly cut: (during: Duration.Duration) => Effect.Effect<void>
  readonly kill: Effect.Effect<void>
}

const joinAgain = Schedule.spaced("100 millis")

/**
 * A transport with faults around another one; `layer` does the same with layers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  inner: Transport.Service,
  options: Options
): Effect.Effect<{ readonly transport: Transport.Service; readonly faults: Service }> =>
  Effect.sync(() => {
    const prng = Prng.make(options.seed)
    const counts: Counts = {
      failedPublishes: 0,
      lostReceipts: 0,
      delays: 0,
      reorders: 0,
      droppedAcks: 0,
      lostSettlements: 0,
      duplicates: 0,
      cuts: 0,
      reportedLost: 0
    }
    const lines = new Set<Line>()
    let cuts = 0
    let dead = false

    const delay = (given: Delay | undefined): Duration.Duration | undefined => {
      if (given === undefined || !prng.chance(given.rate)) return undefined
      counts.delays++
      return Duration.millis(Math.ceil(prng.next() * Duration.toMillis(given.max)))
    }

    const publish: Transport.Service["publish"] = (topic, messages, { timeout }) =>
      Effect.gen(function*() {
        if (dead) return messages.map(() => Either.left(unreachable(topic.name, "unknown")))
        const wait = delay(options.delayPublish)
        if (wait !== undefined) yield* Effect.sleep(Duration.min(wait, timeout))
        const refused = new Set<string | undefined>()
        const passes = messages.map((message) => {
          const key = message.aggregateId ?? keyOf(message)
          if (cuts === 0 && !refused.has(key) && !prng.chance(options.failPublish ?? 0)) return true
          if (key !== undefined) refused.add(key)
          return false
        })
        const results = yield* inner.publish(topic, messages.filter((_, i) => passes[i]), { timeout })
        let next = 0
        return passes.map((passed): Either.Either<Transport.Receipt, PublishError> => {
          if (!passed) {
            counts.failedPublishes++
            return Either.left(unreachable(topic.name, "not-written"))
          }
          const result = results[next++]!
          if (Either.isLeft(result) || !prng.chance(options.loseReceipt ?? 0)) return result
          counts.lostReceipts++
          return Either.left(
            new PublishFailed({ topic: topic.name, reason: "Timeout", outcome: "unknown", cause: injected })
          )
        })
      })

    const subscribe: Transport.Service["subscribe"] = (request, consumer) =>
      Effect.gen(function*() {
        const run = Runtime.runFork(yield* Effect.runtime<never>())
        const turn = yield* Effect.makeSemaphore(1)
        const stopping = yield* Deferred.make<void>()
        const lanes = new Set<FaultLane>()
        let joined: { readonly source: Transport.Source; readonly scope: Scope.CloseableScope } | undefined
        let stopped = false

        const faulty: Transport.Consumer = {
          assigned: (assignment) => {
            const lane = new FaultLane(assignment, consumer, {
              prng,
              counts,
              reorder: options.reorder ?? 0,
              dropAck: options.dropAck ?? 0,
              loseSettlement: options.loseSettlement ?? 0,
              duplicate: request.semantics === "at-least-once" ? options.duplicate ?? 0 : 0,
              delay: () => delay(options.delayDelivery),
              after: (wait, then) => void run(Effect.zipRight(Effect.sleep(wait), Effect.sync(then))),
              onClosed: (lane) => void lanes.delete(lane)
            })
            lanes.add(lane)
            return lane
          }
        }

        const join = Effect.gen(function*() {
          const scope = yield* Scope.make()
          const source = yield* inner.subscribe(request, faulty).pipe(
            Scope.extend(scope),
            Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
          )
          joined = { source, scope }
        })

        const leave = Effect.suspend(() => {
          const scope = joined?.scope
          joined = undefined
          return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
        })

        const cut = (during: Duration.Duration) =>
          turn.withPermits(1)(Effect.gen(function*() {
            if (stopped || joined === undefined) return
            yield* joined.source.stop
            yield* Effect.forEach(
              Array.from(lanes),
              (lane) => lane.close({ deadline: Duration.zero, finishQueued: false }),
              { concurrency: "unbounded", discard: true }
            )
            yield* leave
            yield* Effect.timeoutOption(Effect.interruptible(Deferred.await(stopping)), during)
            if (stopped) return
            yield* Effect.retry(join, { schedule: joinAgain, while: () => !stopped }).pipe(
              Effect.catchAllCause((cause) => Effect.logWarning("Joining again after a cut failed", cause))
            )
          })).pipe(Effect.uninterruptible)

        const kill = Effect.gen(function*() {
          stopped = true
          for (const lane of lanes) lane.kill()
          yield* Deferred.succeed(stopping, undefined)
          yield* turn.withPermits(1)(leave)
        }).pipe(Effect.uninterruptible)

        const line: Line = { cut, kill }
        yield* Effect.acquireRelease(join, () => Effect.zipRight(Effect.sync(() => lines.delete(line)), leave))
        lines.add(line)
        return {
          stop: Effect.gen(function*() {
            stopped = true
            yield* Deferred.succeed(stopping, undefined)
            yield* turn.withPermits(1)(Effect.suspend(() => joined === undefined ? Effect.void : joined.source.stop))
          }).pipe(Effect.uninterruptible)
        }
      })

    const cut: Service["cut"] = (during) =>
      Effect.suspend(() => {
        cuts++
        counts.cuts++
        return Effect.ensuring(
          Effect.forEach(Array.from(lines), (line) => line.cut(Duration.decode(during)), {
            concurrency: "unbounded",
            discard: true
          }),
          Effect.sync(() => cuts--)
        )
      })

    const kill = Effect.suspend(() => {
      dead = true
      return Effect.forEach(Array.from(lines), (line) => line.kill, { concurrency: "unbounded", discard: true })
    })

    const stores = inner.store
    const store: Transport.Service["store"] = stores && ((request) =>
      Effect.map(stores(request), (opened) =>
        FaultStore.make(opened, {
          topic: request.topic.name,
          prng,
          failWrite: options.failPublish ?? 0,
          loseAnswer: options.loseReceipt ?? 0,
          delay: () => delay(options.delayPublish),
          isDead: () => dead,
          isCut: () => cuts > 0
        })))

    return {
      transport: { ...inner, publish, subscribe, ...(store === undefined ? {} : { store }) },
      faults: { counts, cut, kill }
    }
  })

const unreachable = (topic: string, outcome: "not-written" | "unknown") =>
  new PublishFailed({ topic, reason: "Unreachable", outcome, cause: injected })

const injected = new Error("a fault of the test")

/**
 * The typed failure with which `handler` makes a handler fail.
 *
 * @since 0.1.0
 * @category errors
 */
export class InjectedFailure extends Data.TaggedError("InjectedFailure")<{}> {
  override get message() {
    return "A fault of the test: this handler was made to fail"
  }
}

/**
 * Rates are probabilities between 0 and 1, drawn for each start of the handler. A fault without a rate does not happen.
 *
 * @since 0.1.0
 * @category options
 */
export interface HandlerOptions {
  readonly seed: number
  /** It fails with `InjectedFailure`, in half of the cases after it has done its work. */
  readonly fail?: number | undefined
  /** It dies, in half of the cases after it has done its work. */
  readonly die?: number | undefined
  /** It takes longer. */
  readonly slow?: Delay | undefined
}

/**
 * A handler with faults. Half of the failures come after the handler's work is done. So a test shows whether the handler may do its
 * work twice.
 *
 * @since 0.1.0
 * @category handlers
 */
export const handler = (options: HandlerOptions) => {
  const prng = Prng.make(options.seed)
  return <A, D, E, R>(
    handle: (event: A, delivery: D) => Effect.Effect<unknown, E, R>
  ): (event: A, delivery: D) => Effect.Effect<void, E | InjectedFailure, R> =>
  (event, delivery) =>
    Effect.suspend(() => {
      const wait = prng.chance(options.slow?.rate ?? 0)
        ? Effect.sleep(Math.ceil(prng.next() * Duration.toMillis(options.slow!.max)))
        : Effect.void
      const fault = prng.chance(options.die ?? 0)
        ? Effect.die(injected)
        : prng.chance(options.fail ?? 0)
        ? new InjectedFailure()
        : undefined
      const work = Effect.zipRight(wait, Effect.suspend(() => handle(event, delivery)))
      if (fault === undefined) return Effect.asVoid(work)
      return prng.chance(0.5) ? Effect.zipRight(wait, fault) : Effect.zipRight(work, fault)
    })
}
