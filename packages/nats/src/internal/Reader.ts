/**
 * One partition that this instance owns: read by a loop that is started again whatever breaks it, until the partition is
 * given back, lost, or the subscription closes.
 */
import type { PartitionStatus, Problem } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { NatsRequestFailed } from "../NatsErrors.js"
import { Closing } from "./Closing.js"
import type { Connection, Listener } from "./Connection.js"
import { type Options as SessionOptions, Session } from "./Session.js"

/** How it ends. */
export type End = "Wanted" | "Closed" | "Lost"

const none = FiberId.none

export class Reader {
  /** Done when reading has begun, or failed to for the first time. */
  readonly opened = Deferred.unsafeMake<void>(none)
  private readonly ended = Deferred.unsafeMake<End>(none)
  private readonly lost = Deferred.unsafeMake<"Lost">(none)
  private readonly session: Session
  private loop: Fiber.RuntimeFiber<never> | undefined
  private isStopped = false
  /** Which time its last requests have: that of all that closes, or, where others want the partition, one of its own. */
  private closing: Closing

  constructor(private readonly options: SessionOptions) {
    this.session = new Session(options)
    this.closing = options.connection.closing
  }

  /** How the partition stands; undefined before it is read for the first time. */
  get status(): PartitionStatus | undefined {
    return this.session.status()
  }

  /** Why it is not read now. */
  get problem(): Problem | undefined {
    const problem = this.session.progress.problem
    return problem && { ...problem, message: `Partition ${this.options.lease.partition}: ${problem.message}` }
  }

  /** What waits for the lane, or is held back by a take-over, in bytes. */
  get bufferedBytes(): number {
    return this.session.intake.bufferedBytes
  }

  /** Others want the partition, or the subscription closes, and its lanes are closed already. */
  end(end: "Wanted" | "Closed"): void {
    Deferred.unsafeDone(this.ended, Effect.succeed(end))
  }

  /** The lease has ended. */
  lose(): void {
    this.session.stop()
    Deferred.unsafeDone(this.lost, Effect.succeed("Lost"))
  }

  /** A handler goes on that can't be interrupted. Others get the partition as after a kill, when the lease has ended. */
  isStuck = false

  /** When it has returned nothing more is offered; what was taken can be finished. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    this.isStopped = true
    this.session.stop()
    return this.loop === undefined ? Effect.void : Effect.asVoid(Fiber.interrupt(this.loop))
  })

  /** Ends when the partition was given back. */
  readonly run: Effect.Effect<void> = Effect.suspend(() => {
    const { lease, limit } = this.options
    return this.reading.pipe(
      Effect.catchAllCause((cause) => Effect.logError("Giving back a partition failed", cause)),
      Effect.ensuring(Deferred.succeed(this.opened, undefined)),
      Effect.ensuring(
        Effect.suspend(() =>
          this.isStuck ? Effect.void : this.closing.within(lease.giveBack(this.session.offered, limit.withdraw))
        )
      ),
      Effect.annotateLogs({ partition: lease.partition, epoch: lease.epoch() })
    )
  })

  private readonly reading: Effect.Effect<void> = Effect.scoped(
    Effect.gen(this, function*() {
      const { connection, settings } = this.options
      const { session } = this
      const listener: Listener = {
        onReconnect: () => session.acks.reconnected(),
        onDenied: (denied) => {
          if (denied.operation === "publish" && session.isOurAck(denied.subject)) session.acks.denied = denied
        }
      }
      connection.listeners.add(listener)
      yield* Effect.addFinalizer(() => Effect.sync(() => connection.listeners.delete(listener)))
      yield* Effect.sync(() => session.intake.signalWorking()).pipe(
        Effect.schedule(Schedule.spaced(Math.min(settings.ackWait / 3, 10_000))),
        Effect.forkScoped
      )
      const lost = Deferred.await(this.lost)
      if (!this.isStopped) {
        this.loop = yield* Effect.forkScoped(supervise(connection, session, this.opened))
        const end = yield* Effect.raceFirst(Deferred.await(this.ended), lost)
        yield* this.stop
        if (end === "Wanted") this.closing = new Closing(settings.closeTimeout)
        const last = end === "Wanted"
          ? session.drain(this.closing)
          : end === "Closed"
          ? session.confirm(this.closing)
          : Effect.void
        yield* Effect.raceFirst(last, lost)
        if (end === "Closed") this.isStuck = !(yield* session.isQuiet)
      }
      if (yield* Deferred.isDone(this.lost)) {
        yield* Effect.logWarning("The lease of the partition has ended: its handlers are interrupted")
        yield* session.fence
      }
    }).pipe(Effect.interruptible)
  )
}

/** An epoch that lasted so long was healthy. */
const healthyAfter = 1_000

/** After so many epochs in a row that broke sooner the next one waits. */
const maxHasty = 3

const backoff = Schedule.exponential("2 seconds", 1.7).pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered
)

const supervise = (
  connection: Connection,
  session: Session,
  opened: Deferred.Deferred<void>
): Effect.Effect<never> =>
  Effect.gen(function*() {
    const driver = yield* Schedule.driver(backoff)
    let hasty = 0
    while (true) {
      yield* untilUp(connection)
      let healthyAt: number | undefined
      const exit: Cause.Cause<unknown> = yield* session.open.pipe(
        Effect.ensuring(Deferred.succeed(opened, undefined)),
        Effect.flatMap((opened) =>
          session.readOn(opened, () => {
            healthyAt = performance.now()
          })
        ),
        Effect.sandbox,
        Effect.flip
      )
      if (Cause.isInterruptedOnly(exit)) return yield* Effect.interrupt
      yield* report(exit)
      session.progress.failed(inWords(exit), isDenied(exit))
      const isHealthy = healthyAt !== undefined && performance.now() - healthyAt > healthyAfter
      if (isHealthy) hasty = 0
      else if (healthyAt !== undefined) hasty++
      // What broke in good health, or waits for the connection anyway, begins again at once.
      if (isHealthy || healthyAt !== undefined && hasty < maxHasty || !connection.isUp()) yield* driver.reset
      else yield* Effect.ignore(driver.next(undefined))
    }
  })

const isDenied = (cause: Cause.Cause<unknown>): boolean => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  return failure instanceof NatsRequestFailed && failure.denied !== undefined
}

const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  const failure = Cause.failureOption(cause)
  if (Option.isSome(failure) && isBroken(failure.value)) {
    const { reason } = failure.value
    return reason === "Alone" || reason === "Disconnected"
      ? Effect.logDebug("The consumer loop starts again").pipe(Effect.annotateLogs("reason", reason))
      : Effect.logWarning("The consumer loop starts again").pipe(
        Effect.annotateLogs({ reason, ...("detail" in failure.value ? { detail: failure.value.detail } : {}) })
      )
  }
  return Effect.logError("The consumer loop failed, and starts again", cause)
}

const inWords = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.squash(cause)
  return isBroken(failure) ? failure.reason : failure instanceof Error ? failure.message : String(failure)
}

const isBroken = (failure: unknown): failure is { readonly reason: string; readonly detail?: string } =>
  typeof failure === "object" && failure !== null && "reason" in failure && !("_tag" in failure)

const untilUp = (connection: Connection): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (connection.isUp()) return resume(Effect.void)
    const listener = { onReconnect: () => resume(Effect.void) }
    connection.listeners.add(listener)
    return Effect.sync(() => connection.listeners.delete(listener))
  })
