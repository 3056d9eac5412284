/**
 * A fleet inside this process, on a broker in memory that outlives its instances. One that is killed goes on for a
 * moment, as a severed process would seem to from outside: nothing that it does reaches the broker or the log any more. After
 * a second, in place of a session's timeout, its partitions go to the others.
 */
import {
  EventBus,
  EventBusConfig,
  EventBusError,
  MemoryBroker,
  MemoryTransport,
  Observer,
  Strategy,
  Transport
} from "@effect-eventbus/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import type { Outage } from "./Circumstances.js"
import * as Consumer from "./Consumer.js"
import {
  type Fleet,
  type Instance,
  type Participant,
  ParticipantFailed,
  type Publisher as APublisher
} from "./Fleet.js"
import * as Log from "./Log.js"
import type { Options } from "./Options.js"
import * as Patients from "./Patients.js"
import * as Publisher from "./Publisher.js"
import * as Strategies from "./Strategies.js"
import { topics } from "./Topics.js"

const killed = Either.left(
  new EventBusError.PublishFailed({ topic: "store", reason: "Unreachable", outcome: "unknown" })
)

/** The transport of one instance: what it settles after its death does not arrive. */
const severable = (isAlive: () => boolean) => (transport: Transport.Service): Transport.Service => ({
  ...transport,
  store: (request) =>
    Effect.map(transport.store!(request), (store): Transport.Store => ({
      ...store,
      write: (partition, changes, options) =>
        Effect.suspend(() =>
          isAlive() ? store.write(partition, changes, options) : Effect.succeed(changes.map(() => killed))
        )
    })),
  subscribe: (request, consumer) =>
    transport.subscribe(request, {
      assigned: (assignment) =>
        consumer.assigned({
          ...assignment,
          finish: (message) => {
            if (isAlive()) assignment.finish(message)
          },
          settle: (messages) =>
            isAlive()
              ? assignment.settle(messages)
              : new EventBusError.SettlementFailed({
                topic: assignment.topic,
                partition: assignment.partition,
                isRetryable: false,
                cause: new Error("this instance was killed")
              })
        })
    })
})

class Notes implements Participant {
  private alive = true
  private entries: Array<Log.Entry> = []
  private text = ""

  constructor(readonly name: string) {}

  readonly write: Log.Write = (
    kind,
    aggregate,
    sequence,
    { epoch, maybeDuplicate, offset, partition } = Log.nowhere
  ) => {
    if (!this.alive) return
    this.entries.push({
      kind,
      at: Log.now(),
      process: this.name,
      aggregate,
      sequence,
      partition,
      offset,
      epoch,
      maybeDuplicate
    })
  }
  readonly poll = () => this.entries.splice(0)
  readonly isAlive = () => this.alive
  readonly errors = () => this.text
  readonly end = () => {
    this.alive = false
  }
  readonly logger = Logger.map(Logger.logfmtLogger, (line) => {
    this.text = `${this.text}${line}\n`.slice(-20_000)
  })
}

const settings = EventBusConfig.layer({
  retryBase: "5 millis",
  restartBase: "5 millis",
  holdInterval: "100 millis",
  drainDeadline: "1 second",
  closeDeadline: "1 second"
})

export const make = (options: Options) =>
  Effect.gen(function*() {
    const outages: Array<Outage> = []
    const broker = yield* MemoryBroker.make()
    const names = topics("memory", options.partitions)
    const mine = yield* Effect.scope
    const season = Patients.seasonOf(options)

    const bus = (notes: Notes) =>
      EventBus.layer.pipe(
        Layer.provide(Layer.effect(Transport.Transport, Effect.map(MemoryTransport.make, severable(notes.isAlive)))),
        Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, broker)),
        Layer.provide(settings),
        Layer.provide(Strategy.layer(Strategies.named(options.strategy)!)),
        Layer.provide(Layer.succeed(Observer.Observer, Consumer.observer(names, notes.write))),
        Layer.provideMerge(Logger.replace(Logger.defaultLogger, notes.logger))
      )

    const failed = (name: string) => (cause: Cause.Cause<unknown>) =>
      new ParticipantFailed({ name, output: Cause.pretty(cause) })

    const startInstance = (name: string) =>
      Effect.gen(function*() {
        const notes = new Notes(name)
        const scope = yield* Scope.fork(mine, { _tag: "Sequential" })
        const consumer = Consumer.layer({ ...options, topics: names, write: notes.write, season })
        yield* Layer.buildWithScope(Layer.provide(consumer, bus(notes)), scope).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, notes.logger)),
          Effect.catchAllCause((cause) => Effect.fail(failed(name)(cause)))
        )
        const ended = (why: Outage["why"]) => {
          outages.push({ process: name, from: Log.now(), to: Number.POSITIVE_INFINITY, why })
          notes.end()
        }
        const instance: Instance = {
          ...notes,
          kill: Effect.suspend(() => {
            if (!notes.isAlive()) return Effect.void
            ended("kill")
            return Effect.asVoid(Effect.forkIn(Scope.close(scope, Exit.void), mine))
          }),
          stop: () =>
            Effect.suspend(() =>
              notes.isAlive()
                ? Effect.zipRight(Scope.close(scope, Exit.void), Effect.sync(() => ended("end")))
                : Effect.void
            ).pipe(Effect.as(true)),
          suspend: Effect.dieMessage("what shares a process can't be suspended"),
          resume: Effect.void
        }
        return instance
      })

    const startPublisher = Effect.gen(function*() {
      const notes = new Notes("publisher")
      const control: Publisher.Control = { handled: 0, stopped: false }
      const fiber = yield* Publisher.publish({ ...options, topics: names, write: notes.write, control }).pipe(
        Effect.provide(bus(notes)),
        Effect.onExit(() => Effect.sync(notes.end)),
        Effect.forkIn(mine)
      )
      const publisher: APublisher = {
        ...notes,
        tell: (handled) => {
          control.handled = handled
        },
        finish: Effect.suspend(() => {
          control.stopped = true
          return Effect.asVoid(Fiber.await(fiber))
        })
      }
      return publisher
    })

    const fleet: Fleet = { outages, heal: Effect.sync(() => Patients.heal(season)), startInstance, startPublisher }
    return fleet
  })
