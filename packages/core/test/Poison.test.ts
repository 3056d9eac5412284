import { EventBus, EventBusConfig, EventBusError, FailurePolicy, Observer, type Poison, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Scope, TestClock } from "effect"
import { Process, World } from "./poison/World.js"

const topic = Topic.plain("topic")

interface Life {
  readonly started: Array<number>
  readonly handled: Array<number>
  readonly given: Array<EventBusError.KilledProcess>
  readonly events: Array<Observer.Event>
}

/** A process that handles what the world has. `handle` may kill it. */
const live = (world: World, options: {
  readonly handle: (offset: number, process: Process) => Effect.Effect<void>
  readonly poison?: Poison.Options | "off"
}) =>
  Effect.gen(function*() {
    const process = new Process(world)
    const life: Life = { started: [], handled: [], given: [], events: [] }
    const scope = yield* Scope.make()
    const observer: Observer.Service = { event: (event) => void life.events.push(event) }
    const context = yield* Layer.buildWithScope(
      EventBus.layer.pipe(
        Layer.provide(Layer.succeed(Transport.Transport, process.transport)),
        Layer.provide(Observer.layer(observer)),
        Layer.provide(EventBusConfig.layer({ closeDeadline: "1 millis" }))
      ),
      scope
    )
    const bus = Context.get(context, EventBus.EventBus)
    const subscription = yield* bus.subscribe(topic, (_, delivery) =>
      Effect.gen(function*() {
        if (!process.isAlive) return yield* Effect.never
        life.started.push(delivery.offset)
        yield* options.handle(delivery.offset, process)
        life.handled.push(delivery.offset)
      }), {
      group: "g",
      semantics: "at-least-once",
      onExhausted: FailurePolicy.drop,
      poison: options.poison ?? {},
      onFailure: ({ cause }) =>
        Effect.sync(() => {
          for (const defect of Cause.defects(cause)) {
            if (defect instanceof EventBusError.KilledProcess) life.given.push(defect)
          }
        })
    }).pipe(Scope.extend(scope))
    const end = Effect.suspend(() => {
      process.kill()
      return Effect.gen(function*() {
        const fiber = yield* Effect.fork(Scope.close(scope, Exit.void))
        while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust("10 millis")
      })
    })
    const close = Effect.gen(function*() {
      const fiber = yield* Effect.fork(Scope.close(scope, Exit.void))
      while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust("10 millis")
    })
    return { life, process, subscription, end, close }
  })

/** Lets virtual time pass, in steps, until something holds or the time is over. */
const pass = (atMost: number, until: () => boolean, step = 20) =>
  Effect.gen(function*() {
    for (let passed = 0; passed < atMost && !until(); passed += step) yield* TestClock.adjust(step)
  })

const handles = (poisonous: ReadonlySet<number>, millis = 5) => (offset: number, process: Process) =>
  poisonous.has(offset)
    ? Effect.zipRight(Effect.sync(() => process.kill()), Effect.never)
    : Effect.sleep(millis)

describe("a message that ends the process", () => {
  it.effect("goes to the policy in the third life without being started, and each life handles others", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 2_000; i++) world.publish(`a${i % 400}`)
      const poison = 300
      const handle = handles(new Set([poison]))
      const figures: Array<string> = []
      const starts: Array<number> = []
      let given: ReadonlyArray<EventBusError.KilledProcess> = []
      for (let number = 1; number <= 3; number++) {
        const { close, end, life, process } = yield* live(world, { handle })
        yield* pass(90_000, () => !process.isAlive || world.isDone)
        figures.push(
          `life ${number}: ${life.handled.length} handled, poison started ${life.started.filter((o) => o === poison).length} times, ` +
            (process.isAlive ? `all done, ${life.given.length} given up` : "dead")
        )
        starts.push(...life.started.filter((offset) => offset === poison))
        given = life.given
        expect(life.handled.length).toBeGreaterThan(0)
        yield* process.isAlive ? close : end
      }
      console.log(figures.join("\n"), `\n${world.writes} writes, ${world.keys.length} keys left`)
      expect(starts).toHaveLength(2)
      expect(given).toHaveLength(1)
      expect(given[0]!.deaths).toBe(2)
      expect(world.isDone).toBe(true)
    }), 60_000)
})
