import {
  type Control,
  EventBus,
  EventBusConfig,
  FailurePolicy,
  Headers,
  MemoryBroker,
  MemoryTransport,
  Observer,
  type Recovery,
  Strategy,
  Supervisor,
  Topic,
  Transport
} from "@effect-eventbus/core"
import * as Faults from "@effect-eventbus/testing/Faults"
import * as History from "@effect-eventbus/testing/History"
import { Context, Effect, Either, Exit, Schema, Scope } from "effect"
import type { Bug } from "./Bugs.js"

export class Step extends Schema.TaggedClass<Step>()("Step", {
  sequence: Schema.Int,
  /** How often its handler dies, then how often it fails, before it succeeds. */
  dies: Schema.Int,
  fails: Schema.Int,
  takes: Schema.Int
}) {}

export interface Settings {
  readonly seed: number
  readonly partitions: number
  /** Bounds of everything, in messages; small ones are reached. */
  readonly bound: number
  readonly holds: boolean
  readonly faults: Omit<Faults.Options, "seed">
  /** The number of the strategy that each process begins with. */
  readonly strategy?: number | undefined
  /** Whether subscriptions have recovery mode, with small bounds. */
  readonly recovers?: boolean | undefined
  /** Whether what is given up is parked. */
  readonly parks?: boolean | undefined
  readonly bug?: Bug | undefined
}

/** Between which a process may switch. Few slots and small mailboxes, so that aggregates are in each other's way. */
export const strategies: ReadonlyArray<Strategy.Service> = [
  Strategy.actorPerAggregate,
  Strategy.pool({ name: "one", size: 1 }),
  Strategy.pool({ name: "three", size: 3, capacity: 2, restart: 3 }),
  Strategy.pool({ name: "workers", size: 2, restart: "never", reportFullAfter: "20 millis" }),
  { ...Strategy.actorPerAggregate, name: "small", capacity: 1, restart: "never" }
]

const decoder = new TextDecoder()

const identify = (message: Transport.IncomingMessage): History.Message => ({
  aggregate: decoder.decode(message.key ?? new Uint8Array(0)),
  sequence: Number(Headers.get(message.headers, "sequence"))
})

/** Writes down what one process sees, for as long as it lives. */
class Witness extends History.Recorder {
  alive = true

  constructor(private readonly all: History.Recorder) {
    super(() => 0)
  }

  override add(entry: Parameters<History.Recorder["add"]>[0]): void {
    if (this.alive) this.all.add(entry)
  }
}

interface Process {
  readonly name: string
  readonly scope: Scope.CloseableScope
  readonly bus: EventBus.Service
  readonly faults: Faults.Service
  readonly witnesses: readonly [orders: Witness, clicks: Witness]
  readonly pause: { gate: Effect.Latch }
  subscription: Scope.CloseableScope | undefined
  /** Sets the recovery mode of its subscriptions, while it has some. */
  recover: ((mode: Recovery.Mode) => Effect.Effect<void>) | undefined
  /** Of the subscription to orders. */
  control: Control.Control | undefined
  /** The offsets of messages that it has parked: their settlement says nothing of how they end. */
  readonly parked: ReadonlySet<string>
}

/**
 * A broker in memory, and processes that come and go. What the world remembers of them is the model: what was published,
 * and in which order.
 */
export class World {
  readonly orders = Topic.envelope("orders", Step)
  readonly clicks = Topic.plain("clicks")
  readonly processes: Array<Process> = []
  private readonly allFaults: Array<Faults.Service> = []
  private closedLost = 0
  private started = 0
  private readonly published = new Map<string, number>()
  private readonly outstandingOrders = new Set<string>()
  private readonly finished = new Set<string>()
  /** By partition and offset, of orders. */
  private readonly offered = new Map<string, History.Message & { readonly epoch: number }>()
  /** How often messages were given up. */
  private readonly givenUp = new Map<string, number>()
  parks = 0
  discards = 0

  constructor(
    readonly settings: Settings,
    readonly broker: MemoryBroker.Service,
    readonly seenOrders: History.Recorder,
    readonly seenClicks: History.Recorder,
    private readonly publisher: EventBus.Service
  ) {}

  /** At-most-once messages that were lost with notice. */
  get reportedLost(): number {
    return this.allFaults.reduce((sum, { counts }) => sum + counts.reportedLost, this.closedLost)
  }

  get lostSettlements(): number {
    return this.allFaults.reduce((sum, { counts }) => sum + counts.lostSettlements, 0)
  }

  /** Whether something is left that nobody has settled. */
  isBehind(topic: string): Effect.Effect<boolean> {
    return Effect.map(this.broker.positions(topic, "group"), (all) => all.some(({ end, watermark }) => watermark < end))
  }

  get outstanding(): number {
    for (let i = this.looked; i < this.seenOrders.entries.length; i++) {
      const entry = this.seenOrders.entries[i]!
      if (!("aggregate" in entry)) continue
      const key = `${entry.aggregate}/${entry.sequence}`
      // A handler may be quicker than the confirmation.
      if (entry.kind === "published" && !this.finished.has(key)) this.outstandingOrders.add(key)
      if (entry.kind !== "ended" || entry.outcome !== "finished") continue
      this.finished.add(key)
      this.outstandingOrders.delete(key)
    }
    this.looked = this.seenOrders.entries.length
    return this.outstandingOrders.size
  }
  private looked = 0

  readonly start = Effect.gen(this, function*() {
    const name = `p${this.started++}`
    const witnesses = [new Witness(this.seenOrders), new Witness(this.seenClicks)] as const
    const scope = yield* Scope.make()
    const parked = new Set<string>()
    const made = yield* connect(
      this.broker,
      { ...this.settings.faults, seed: this.settings.seed + this.started },
      (inner) => {
        const observed = this.observed(name, witnesses, parked, inner)
        return this.settings.bug?.transport?.(observed) ?? observed
      }
    )
    const bus = yield* busOn(made.transport, this.settings).pipe(
      Scope.extend(scope),
      Effect.provideService(Observer.Observer, {
        transition: ({ offset, outcome, partition }) => {
          if (outcome === "parked") parked.add(`${partition}/${offset}`)
        }
      })
    )
    const process: Process = {
      name,
      scope,
      witnesses,
      bus,
      faults: made.faults,
      pause: { gate: Effect.unsafeMakeLatch(true) },
      subscription: undefined,
      recover: undefined,
      control: undefined,
      parked
    }
    this.processes.push(process)
    this.allFaults.push(process.faults)
    yield* this.subscribe(process)
  })

  readonly subscribe = (process: Process) =>
    Effect.gen(this, function*() {
      if (process.subscription !== undefined) return
      const scope = process.subscription = yield* Scope.make()
      const [orders, clicks] = process.witnesses
      const { bound, recovers } = this.settings
      // Everything is reached: a rate that the messages exceed, fewer actors than aggregates, a backlog on both sides of its thresholds.
      const recovery: Recovery.Options | undefined = recovers === true
        ? {
          enterAt: bound,
          leaveAt: bound >> 1,
          calmFor: "40 millis",
          interval: "5 millis",
          sendTimeout: "10 millis",
          idleTimeout: "30 millis",
          maxActors: Math.max(1, bound >> 1),
          rate: { perSecond: 300, burst: 3 }
        }
        : undefined
      const inHand = new Map<string, History.Message & { readonly epoch: number }>()
      const toOrders = yield* process.bus.subscribe(
        this.orders,
        orders.observe(process.name, ({ sequence }) => sequence, (step, delivery) =>
          Effect.suspend(() => {
            const { aggregateId, attempt, epoch, offset, partition } = delivery
            inHand.set(`${partition}/${offset}`, { aggregate: aggregateId, sequence: step.sequence, epoch })
            return process.pause.gate.await.pipe(
              Effect.zipRight(step.takes > 0 ? Effect.sleep(step.takes) : Effect.void),
              Effect.zipRight(Effect.suspend((): Effect.Effect<void, "failed"> => {
                if (!orders.alive) return Effect.never
                // What was parked fails once or twice more when it is released.
                const times = this.givenUp.get(`${aggregateId}/${step.sequence}`) ?? 0
                if (times > step.fails % 2 + step.dies % 2) return Effect.void
                if (attempt <= step.dies) return Effect.die("died")
                return attempt <= step.dies + step.fails ? Effect.fail("failed") : Effect.void
              }))
            )
          })),
        {
          recovery,
          onExhausted: this.settings.parks === true
            ? FailurePolicy.park({
              undecodable: FailurePolicy.drop,
              maxPerAggregate: bound * 2,
              onDiscarded: ({ offset, partition }) =>
                Effect.sync(() => {
                  const message = this.offered.get(`${partition}/${offset}`)!
                  orders.add({ kind: "ended", process: process.name, ...message, outcome: "finished" })
                  this.discards++
                })
            })
            : this.settings.holds
            ? FailurePolicy.hold({ undecodable: FailurePolicy.drop })
            : FailurePolicy.drop,
          onFailure: ({ policy, position }) =>
            Effect.sync(() => {
              const message = inHand.get(`${position.partition}/${position.offset}`)
              if (message === undefined) return
              if (policy._tag === "Park") {
                const key = `${message.aggregate}/${message.sequence}`
                this.givenUp.set(key, (this.givenUp.get(key) ?? 0) + 1)
                this.parks++
              }
              if (policy._tag === "Hold" || policy._tag === "Park") return
              orders.add({ kind: "ended", process: process.name, ...message, outcome: "finished" })
            })
        }
      ).pipe(Scope.extend(scope))
      const subscription = yield* process.bus.subscribe(
        this.clicks,
        clicks.observe(process.name, (body: Uint8Array) =>
          Number(decoder.decode(body)), (body, { offset }) =>
          process.pause.gate.await.pipe(
            Effect.zipRight(Effect.sleep(body.length)),
            Effect.zipRight(Effect.suspend((): Effect.Effect<void, "failed"> => {
              if (!clicks.alive) {
                return Effect.never
              }
              return offset % 7 === 3 ? Effect.fail("failed") : offset % 11 === 5 ? Effect.die("died") : Effect.void
            }))
          )),
        { recovery }
      ).pipe(Scope.extend(scope))
      process.control = toOrders.control
      process.recover = (mode) =>
        Effect.zipRight(toOrders.setRecoveryMode(mode), subscription.setRecoveryMode(mode))
      yield* Scope.addFinalizer(
        scope,
        Effect.map(subscription.close, ({ lost }) => {
          if (clicks.alive) {
            this.closedLost += lost
          }
        })
      )
    })

  readonly unsubscribe = (process: Process) =>
    Effect.suspend(() => {
      const scope = process.subscription
      process.subscription = undefined
      process.recover = undefined
      process.control = undefined
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })

  /** What a kill leaves: the broker, and nothing of the process. */
  readonly crash = (process: Process) =>
    Effect.gen(this, function*() {
      this.forget(process)
      for (const one of process.witnesses) {
        one.add({ kind: "down", process: process.name, cause: "killed" })
        one.alive = false
      }
      yield* process.faults.kill
      // Only to free what is in memory; nobody sees anything of it.
      yield* Effect.forkDaemon(Effect.zipRight(this.unsubscribe(process), Scope.close(process.scope, Exit.void)))
    })

  readonly close = (process: Process) =>
    Effect.suspend(() => {
      this.forget(process)
      process.pause.gate.unsafeOpen()
      return Effect.zipRight(this.unsubscribe(process), Scope.close(process.scope, Exit.void))
    })

  readonly publish = (aggregate: string, steps: ReadonlyArray<Omit<Step, "_tag" | "sequence">>) =>
    Effect.gen(this, function*() {
      const first = this.published.get(aggregate) ?? 0
      const results = yield* results_(this.publisher.publishAll(
        this.orders,
        steps.map((step, i) => ({
          aggregateId: aggregate,
          headers: { sequence: `${first + i}` },
          payload: new Step({ ...step, sequence: first + i })
        }))
      ))
      // What is refused is the end of the call, as for a connection that is lost.
      this.published.set(aggregate, first + this.note(this.seenOrders, aggregate, first, results))
    })

  readonly click = (count: number) =>
    Effect.gen(this, function*() {
      const first = this.published.get("click") ?? 0
      const results = yield* results_(this.publisher.publishAll(
        this.clicks,
        Array.from({ length: count }, (_, i) => ({
          body: `${first + i}`,
          headers: { sequence: `${first + i}` },
          key: "click"
        }))
      ))
      this.published.set("click", first + this.note(this.seenClicks, "click", first, results))
    })

  private note(
    seen: History.Recorder,
    aggregate: string,
    first: number,
    results: ReadonlyArray<Either.Either<Transport.Receipt, EventBus.PublishAllFailed["results"][number] | unknown>>
  ): number {
    let written = 0
    for (const result of results) {
      if (Either.isLeft(result) && (result.left as { readonly outcome?: string }).outcome === "not-written") break
      const outcome = Either.isRight(result) ? "confirmed" : "unknown"
      seen.add({ kind: "published", process: "publisher", aggregate, sequence: first + written++, outcome })
    }
    return written
  }

  private forget(process: Process): void {
    this.processes.splice(this.processes.indexOf(process), 1)
  }

  /** Writes down what reaches the broker. */
  private observed(
    process: string,
    [orders, clicks]: Process["witnesses"],
    parked: ReadonlySet<string>,
    inner: Transport.Service
  ): Transport.Service {
    return {
      ...inner,
      subscribe: (request, consumer) => {
        const witness = request.topic.kind === "envelope" ? orders : clicks
        return inner.subscribe(request, {
          assigned: (assignment) => {
            let over = false
            const { epoch } = assignment
            const settled = (message: Transport.IncomingMessage) => {
              if (witness === orders && parked.has(`${message.partition}/${message.offset}`)) return
              if (!over) witness.add({ kind: "settled", process, epoch, ...identify(message) })
            }
            const lane = consumer.assigned({
              ...assignment,
              // A dead process reaches nobody, from the moment on from which nothing of it is written down.
              finish: (message) => {
                if (!witness.alive) return
                settled(message)
                assignment.finish(message)
              },
              settle: (messages) =>
                Effect.suspend(() =>
                  witness.alive
                    ? Effect.tap(assignment.settle(messages), () => Effect.sync(() => messages.forEach(settled)))
                    : Effect.never
                )
            })
            return {
              offer: (messages) => {
                if (witness === orders) {
                  for (const message of messages) {
                    this.offered.set(`${message.partition}/${message.offset}`, { ...identify(message), epoch })
                  }
                }
                return lane.offer(messages)
              },
              close: (options) => Effect.tap(lane.close(options), () => Effect.sync(() => void (over = true)))
            }
          }
        })
      }
    }
  }
}

const results_ = (
  publishing: Effect.Effect<ReadonlyArray<Transport.Receipt>, EventBus.PublishAllFailed>
) =>
  Effect.match(publishing, {
    onFailure: ({ results }) => results,
    onSuccess: (receipts): EventBus.PublishAllFailed["results"] => receipts.map((one) => Either.right(one))
  })

const connect = (
  broker: MemoryBroker.Service,
  faults: Faults.Options,
  around: (inner: Transport.Service) => Transport.Service = (inner) => inner
) =>
  MemoryTransport.make.pipe(
    Effect.provideService(MemoryBroker.MemoryBroker, broker),
    Effect.flatMap((inner) => Faults.make(around(inner), faults))
  )

/** What `EventBus.layer` builds, without layers: they were half of the cost of a schedule. */
const busOn = (transport: Transport.Service, { bound, bug, strategy }: Settings) =>
  Effect.gen(function*() {
    const config = Context.make(EventBusConfig.EventBusConfig, yield* configOf(bound)).pipe(
      Context.add(Strategy.Strategy, strategies[strategy ?? 0]!)
    )
    const supervisor = yield* Effect.provide(Supervisor.make(), config)
    return yield* Effect.provide(
      EventBus.make,
      config.pipe(
        Context.add(Transport.Transport, transport),
        Context.add(Supervisor.Supervisor, bug?.supervisor?.(supervisor) ?? supervisor)
      )
    )
  })

const configOf = (bound: number) =>
  EventBusConfig.make({
    mailboxCapacity: bound,
    maxUnfinished: bound * 2,
    maxAboveWatermark: bound * 4,
    maxActors: bound,
    maxSettledAhead: bound,
    retryTimes: 3,
    retryBase: "1 millis",
    retryCap: "20 millis",
    restartBase: "1 millis",
    holdInterval: "20 millis",
    drainDeadline: "30 millis",
    closeDeadline: "200 millis",
    actorIdleTimeout: "100 millis"
  })

export const make = (settings: Settings) =>
  Effect.gen(function*() {
    const broker = yield* MemoryBroker.make({ partitions: settings.partitions })
    const { transport } = yield* connect(broker, { ...settings.faults, seed: settings.seed })
    return new World(
      settings,
      broker,
      yield* History.recorder,
      yield* History.recorder,
      yield* busOn(transport, { ...settings, bug: undefined })
    )
  })
