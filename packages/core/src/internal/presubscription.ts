import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import type * as EventBusConfig from "../EventBusConfig.js"
import type { SubscribeError } from "../EventBusError.js"
import type { Presubscription } from "../Subscription.js"
import type * as Transport from "../Transport.js"
import * as Closing from "./closing.js"
import * as Logging from "./logging.js"
import { WaitingLane, type WaitingState } from "./waitingLane.js"

/** @internal */
export interface Settings {
  readonly transport: Transport.Service
  readonly config: EventBusConfig.Service
  readonly topic: Transport.TopicSpec
  readonly group: string
  readonly semantics: Transport.Semantics
  readonly startFrom: Transport.StartFrom
  readonly withoutHandler: "hold" | "skip"
  readonly warn: (text: string) => void
  /** Closes the subscription that is attached, if there is one. */
  readonly closeAttached: Effect.Effect<unknown>
  /** Runs when it has been closed. */
  readonly onClosed: Effect.Effect<void>
}

/**
 * A subscription of the transport whose lanes stay while handlers come and go. The subscription of a handler sees it as a
 * transport: subscribing attaches the handler, and the end of the scope detaches it.
 *
 * @internal
 */
export class Presubscribed implements WaitingState {
  skipped = 0
  /** The pre-subscription ends. Nothing is skipped any more, because other members may have a handler. */
  isClosing = false
  private readonly lanes = new Set<WaitingLane>()
  private attached: Transport.Consumer | undefined
  private source: Transport.Source | undefined
  /** The handler's subscription is closing. */
  private isLeaving = false
  /** Completes when the group is joined. */
  readonly standing: Deferred.Deferred<void, SubscribeError> = Deferred.unsafeMake(FiberId.none)

  readonly mostAhead: number

  constructor(readonly settings: Settings) {
    const { config, transport } = settings
    this.mostAhead = transport.capabilities.settlement === "position" ? config.maxAboveWatermark : Infinity
  }

  get warn(): (text: string) => void {
    return this.settings.warn
  }

  get skips(): boolean {
    return this.settings.withoutHandler === "skip" && !this.isClosing
  }

  /** The transport that the subscription of a handler sees. */
  get transport(): Transport.Service {
    const { transport } = this.settings
    return {
      name: transport.name,
      capabilities: transport.capabilities,
      publish: (...args) => transport.publish(...args),
      store: transport.store && ((request) => transport.store!(request)),
      subscribe: (_, consumer) => this.attach(consumer)
    }
  }

  private attach(consumer: Transport.Consumer): Effect.Effect<Transport.Source, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        this.attached = consumer
        for (const lane of this.lanes) lane.attach(consumer)
        return {
          stop: Effect.sync(() => {
            this.isLeaving = true
            for (const lane of this.lanes) lane.leave()
          }),
          status: this.source?.status,
          failed: this.source?.failed
        }
      }),
      () =>
        Effect.sync(() => {
          this.attached = undefined
          this.isLeaving = false
          for (const lane of this.lanes) lane.detach()
        })
    )
  }

  /** The consumer that the real transport sees. */
  private readonly consumer: Transport.Consumer = {
    assigned: (assignment) => {
      const lane = new WaitingLane(assignment, this, () => this.lanes.delete(lane))
      this.lanes.add(lane)
      if (this.isLeaving) lane.leave()
      else if (this.attached !== undefined) lane.attach(this.attached)
      return lane
    }
  }

  /** Ends the pre-subscription. Before it has joined there is nothing to end. */
  close: Effect.Effect<void> = Effect.void

  /** Joins the group. The end of the scope leaves it. */
  readonly join: Effect.Effect<Presubscription, SubscribeError, Scope.Scope> = Effect.uninterruptibleMask((restore) =>
    Effect.gen(this, function*() {
      const { closeAttached, config, group, onClosed, semantics, startFrom, topic, transport } = this.settings
      const scope = yield* Scope.make()
      const source = yield* restore(Logging.unbreakable(transport.subscribe({
        topic,
        group,
        semantics,
        startFrom,
        maxAboveWatermark: config.maxAboveWatermark,
        maxUnfinished: config.maxUnfinished,
        drainDeadline: config.drainDeadline
      }, this.consumer))).pipe(
        Scope.extend(scope),
        Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
      )
      this.source = source
      const closeOnce = source.stop.pipe(
        Effect.zipRight(closeAttached),
        Effect.zipRight(Effect.suspend(() =>
          Effect.forEach(
            Array.from(this.lanes),
            (lane) => lane.close({ deadline: config.closeDeadline, finishQueued: true }),
            { concurrency: "unbounded" }
          )
        )),
        Effect.ensuring(Scope.close(scope, Exit.void)),
        Effect.ensuring(onClosed),
        Effect.asVoid
      )
      const close = this.close = Closing.once(Logging.unbreakable(closeOnce), () => {
        this.isClosing = true
      })
      yield* Effect.addFinalizer(() => close)
      return {
        topic: topic.name,
        group,
        stats: Effect.sync(() => ({
          skipped: this.skipped,
          waiting: Array.from(this.lanes).filter((lane) => lane.isWaiting).length,
          isAttached: this.attached !== undefined
        })),
        close
      }
    })
  )
}
