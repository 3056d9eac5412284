/**
 * What outlives a process, for tests in which processes die: a partition's log, what the group has committed, and its store. It behaves as Kafka
 * does: a commit each second, with what is finished above the watermark; after a death all is marked as possible duplicates that
 * may have been handed over.
 */
import { EventBusError, type Transport } from "@effect-eventbus/core"
import { Deferred, Duration, Effect, Either, Schedule, Stream } from "effect"

const unavailable = new EventBusError.PublishFailed({
  topic: "topic",
  reason: "Timeout",
  outcome: "unknown",
  cause: "the store is down"
})

const encoder = new TextEncoder()

/** As Kafka's: what may have been handed over above the commit. */
const window = 11_000

export class World {
  readonly log: Array<Transport.IncomingMessage> = []
  private watermark = 0
  private readonly finishedAbove = new Set<number>()
  private isClean = true
  private readonly stored = new Map<string, Transport.StoreEntry>()
  private revision = 0
  writes = 0
  /** The store answers nothing good. */
  isDown = false
  /** The store answers nothing at all. */
  isStuck = false

  constructor(readonly options: { readonly roundTrip?: Duration.DurationInput } = {}) {}

  publish(key: string): number {
    const offset = this.log.length
    this.log.push({
      topic: "topic",
      partition: 0,
      offset,
      key: encoder.encode(key),
      value: encoder.encode("{}"),
      headers: {},
      timestamp: 1_000 + offset,
      maybeDuplicate: false,
      deliveryCount: undefined
    })
    return offset
  }

  get committed(): number {
    return this.watermark
  }

  get keys(): ReadonlyArray<string> {
    return Array.from(this.stored.values()).flatMap(({ key, value }) => value === null ? [] : [key])
  }

  /** Whether all was handled, and the broker knows it. */
  get isDone(): boolean {
    return this.watermark === this.log.length
  }

  commit(finished: ReadonlySet<number>, isClean: boolean): void {
    for (const offset of finished) this.finishedAbove.add(offset)
    while (this.finishedAbove.delete(this.watermark)) this.watermark++
    this.isClean = isClean
  }

  /** What a new owner gets. */
  start(): ReadonlyArray<Transport.IncomingMessage> {
    const { finishedAbove, isClean, log, watermark } = this
    const duplicatesBelow = isClean ? 0 : Math.min(log.length, watermark + window)
    this.isClean = false
    return log.slice(watermark)
      .filter(({ offset }) => !finishedAbove.has(offset))
      .map((message) => ({ ...message, maybeDuplicate: message.offset < duplicatesBelow }))
  }

  write(changes: ReadonlyArray<Transport.StoreChange>): ReadonlyArray<number> {
    return changes.map((change) => {
      this.writes++
      const revision = ++this.revision
      this.stored.delete(change.key)
      this.stored.set(change.key, { ...change, revision })
      return revision
    })
  }

  get entries(): ReadonlyArray<Transport.StoreEntry> {
    return Array.from(this.stored.values())
  }
}

/** A process, as its transport sees it. Once it is dead nothing of it reaches the world. */
export class Process {
  isAlive = true
  readonly dead = Effect.runSync(Deferred.make<void>())

  constructor(readonly world: World) {}

  kill(): void {
    this.isAlive = false
    Effect.runSync(Deferred.succeed(this.dead, undefined))
  }

  readonly transport: Transport.Service = {
    name: "world",
    capabilities: {
      durable: true,
      binaryHeaders: true,
      tombstones: true,
      partitions: true,
      settlement: "position",
      maxMessageBytes: 1_000_000
    },
    publish: () => Effect.succeed([]),
    subscribe: (_, consumer) => this.subscribe(consumer),
    store: () => Effect.succeed(this.store)
  }

  private get roundTrip(): Effect.Effect<void> {
    return Effect.sleep(this.world.options.roundTrip ?? "2 millis")
  }

  readonly store: Transport.Store = {
    write: (_, changes) =>
      Effect.suspend(() => {
        // It is on its way, and may be stored although the process dies.
        if (this.world.isStuck) return Effect.never
        if (!this.isAlive) return Effect.succeed(changes.map(() => Either.right(0)))
        return Effect.zipRight(
          this.roundTrip,
          Effect.sync((): ReadonlyArray<Either.Either<number, EventBusError.PublishError>> => {
            if (this.world.isDown) return changes.map(() => Either.left(unavailable))
            return this.isAlive ? this.world.write(changes).map(Either.right) : changes.map(() => Either.right(0))
          })
        )
      }),
    read: (partition) =>
      Stream.unwrap(
        Effect.flatMap(this.roundTrip, () =>
          this.world.isDown
            ? Effect.fail(new EventBusError.ReadFailed({ topic: "topic", partition, cause: "the store is down" }))
            : Effect.succeed(Stream.fromIterable(this.world.entries)))
      )
  }

  private readonly subscribe = (consumer: Transport.Consumer) =>
    Effect.gen(this, function*() {
      const { world } = this
      let left = world.start()
      const finished = new Set<number>()
      const offer = () => {
        if (!this.isAlive || left.length === 0) return
        left = left.slice(lane.offer(left))
      }
      const lane = consumer.assigned({
        topic: "topic",
        partition: 0,
        epoch: 1,
        finish: ({ offset }) => void finished.add(offset),
        settle: () => Effect.void,
        resume: () => queueMicrotask(offer)
      })
      offer()
      const commit = (isClean: boolean) =>
        Effect.sync(() => {
          if (this.isAlive) world.commit(finished, isClean)
        })
      yield* Effect.addFinalizer(() =>
        Effect.zipRight(
          lane.close({ deadline: this.isAlive ? Duration.seconds(1) : Duration.zero, finishQueued: false }),
          commit(true)
        )
      )
      yield* Effect.forkScoped(Effect.repeat(commit(false), Schedule.spaced("1 second")))
      return { stop: Effect.void }
    })
}
