/**
 * Subscriptions: a durable pull consumer each, read by a loop that is started
 * again whatever breaks it.
 *
 * Messages are acknowledged one by one when they are finished. Those in hand are kept alive with in-progress signals,
 * so a handler may take longer than the ack wait. At the start of each epoch what is outstanding at the server and not in
 * hand here (after a crash, or lost with a connection) is got back first, in stream order; newer messages wait for it.
 *
 * @since 0.1.0
 */
import { InvalidConfiguration, type SubscribeError } from "@effect-eventbus/core/EventBusError"
import type { Consumer, Source, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Api } from "./internal/Api.js"
import { bounded } from "./internal/Bounded.js"
import type { Connection } from "./internal/Connection.js"
import { type Opened, Session } from "./internal/Session.js"
import type { Settings } from "./NatsConfig.js"
import { toSubscribeError } from "./NatsErrors.js"
import type { NatsStreams } from "./NatsStreams.js"
import * as Subject from "./Subject.js"

/**
 * @since 0.1.0
 * @category models
 */
export type Subscribe = (
  request: SubscribeRequest,
  consumer: Consumer
) => Effect.Effect<Source, SubscribeError, Scope.Scope>

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  connection: Connection,
  api: Api,
  streams: NatsStreams,
  settings: Settings
): Subscribe =>
(request, consumer) =>
  Effect.gen(function*() {
    const topic = request.topic.name
    const { durable } = yield* Either.all({
      subject: Subject.fromTopic(topic),
      durable: Subject.toDurable(request.group, topic)
    }).pipe(Either.mapLeft((issue) => new InvalidConfiguration({ issues: [issue], topic })))
    const session = new Session({ connection, api, streams, settings, request, consumer, durable })
    const first = yield* Effect.mapError(session.open, (failure) => toSubscribeError(topic, request.group, failure))

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const listener = { onReconnect: () => session.acks.resend() }
        connection.listeners.add(listener)
        return listener
      }),
      (listener) => Effect.sync(() => connection.listeners.delete(listener))
    )
    // Runs last: what the lane finished until now is confirmed by the server.
    yield* Effect.addFinalizer(() =>
      bounded(session.acks.confirmed, settings.closeTimeout).pipe(
        Effect.flatMap((confirmed) =>
          Option.isSome(confirmed)
            ? Effect.void
            : Effect.logWarning("The server did not confirm the last acknowledgements: some messages may come again")
        ),
        Effect.zipRight(Effect.sync(() => {
          session.isClosed = true
        }))
      )
    )
    yield* Effect.sync(() => session.intake.signalWorking()).pipe(
      Effect.schedule(Schedule.spaced(Math.min(settings.ackWait / 3, 10_000))),
      Effect.forkScoped
    )
    const loop = yield* Effect.forkScoped(supervise(connection, session, first))
    const stop = Effect.suspend(() => {
      session.intake.stop()
      return Effect.asVoid(Fiber.interrupt(loop))
    })
    yield* Effect.addFinalizer(() => stop)
    return { stop }
  }).pipe(Effect.annotateLogs({ transport: "nats", topic: request.topic.name, group: request.group }))

/** An epoch that lasted so long was healthy. */
const healthyAfter = 1_000

/** After so many epochs in a row that broke sooner the next one waits. */
const maxHasty = 3

const backoff = Schedule.exponential("2 seconds", 1.7).pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered
)

const supervise = (connection: Connection, session: Session, first: Opened): Effect.Effect<never> =>
  Effect.gen(function*() {
    const driver = yield* Schedule.driver(backoff)
    let opened: Opened | undefined = first
    let hasty = 0
    while (true) {
      yield* untilUp(connection)
      let healthyAt: number | undefined
      const exit: Cause.Cause<unknown> = yield* (opened === undefined ? session.open : Effect.succeed(opened)).pipe(
        Effect.flatMap((opened) =>
          session.epoch(opened, () => {
            healthyAt = performance.now()
          })
        ),
        Effect.sandbox,
        Effect.flip
      )
      opened = undefined
      if (Cause.isInterruptedOnly(exit)) return yield* Effect.interrupt
      yield* report(exit)
      const isHealthy = healthyAt !== undefined && performance.now() - healthyAt > healthyAfter
      if (isHealthy) hasty = 0
      else if (healthyAt !== undefined) hasty++
      // What broke in good health, or waits for the connection anyway, begins again at once.
      if (isHealthy || healthyAt !== undefined && hasty < maxHasty || !connection.isUp()) yield* driver.reset
      else yield* Effect.ignore(driver.next(undefined))
    }
  })

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

const isBroken = (failure: unknown): failure is { readonly reason: string; readonly detail?: string } =>
  typeof failure === "object" && failure !== null && "reason" in failure && !("_tag" in failure)

const untilUp = (connection: Connection): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (connection.isUp()) return resume(Effect.void)
    const listener = { onReconnect: () => resume(Effect.void) }
    connection.listeners.add(listener)
    return Effect.sync(() => connection.listeners.delete(listener))
  })
