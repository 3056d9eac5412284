import {
  EventBus,
  EventBusConfig,
  EventBusError,
  FailurePolicy,
  Observer,
  type Poison,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Clock, Context, Effect, Exit, Fiber, Layer, Option, Scope, TestClock } from "effect"
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
  readonly onExhausted?: FailurePolicy.FailurePolicy
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
      onExhausted: options.onExhausted ?? FailurePolicy.drop,
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
const pass = (atMost: number, until: () => boolean, step = 100) =>
  Effect.gen(function*() {
    for (let passed = 0; passed < atMost && !until(); passed += step) yield* TestClock.adjust(step)
  })

/** Lives until it dies, all is done, or the time is over. */
const wholeLife = (world: World, atMost: number, options: Parameters<typeof live>[1]) =>
  Effect.gen(function*() {
    const { close, end, life, process } = yield* live(world, options)
    yield* pass(atMost, () => !process.isAlive || world.isDone, 250)
    yield* process.isAlive ? close : end
    return life
  })

const handles = (poisonous: ReadonlySet<number>, millis = 5) => (offset: number, process: Process) =>
  poisonous.has(offset)
    ? Effect.zipRight(Effect.sync(() => process.kill()), Effect.never)
    : Effect.sleep(millis)

describe("a message that ends the process", () => {
  it.effect(
    "goes to the policy in the third life without being started, and each life handles others",
    () =>
      Effect.gen(function*() {
        const world = new World()
        for (let i = 0; i < 600; i++) world.publish(`a${i % 120}`)
        const poison = 100
        const lives: Array<Life> = []
        for (let number = 1; number <= 3; number++) {
          const life = yield* wholeLife(world, 90_000, { handle: handles(new Set([poison])) })
          lives.push(life)
          console.log(
            `life ${number}: ${life.handled.length} handled, poison started ${
              life.started.filter((offset) => offset === poison).length
            } times, ${life.given.length} given up`
          )
          expect(life.handled.length).toBeGreaterThan(0)
        }
        expect(lives.map(({ started }) => started.filter((offset) => offset === poison).length)).toEqual([1, 1, 0])
        expect(lives[2]!.given).toHaveLength(1)
        expect(lives[2]!.given[0]!.deaths).toBe(2)
        expect(world.isDone).toBe(true)
        // Nobody of its aggregate has overtaken it, and none of another has overtaken his like.
        for (const { handled } of lives) {
          const last = new Map<number, number>()
          for (const offset of handled) {
            expect(offset).toBeGreaterThan(last.get(offset % 120) ?? -1)
            last.set(offset % 120, offset)
          }
        }
        expect(lives.slice(0, 2).every(({ handled }) => handled.every((offset) => offset % 120 !== 100))).toBe(true)
      }),
    60_000
  )

  it.effect("is held without being started, where the policy is hold", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 20; i++) world.publish(`a${i}`)
      const onExhausted = FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      const handle = handles(new Set([3]))
      yield* wholeLife(world, 10_000, { handle, onExhausted })
      yield* wholeLife(world, 10_000, { handle, onExhausted })
      const third = yield* wholeLife(world, 40_000, { handle, onExhausted })
      expect(third.started).not.toContain(3)
      expect(third.given).toHaveLength(1)
      // It is known without a probation.
      const fourth = yield* wholeLife(world, 5_000, { handle, onExhausted })
      expect(fourth.started).not.toContain(3)
      expect(fourth.given).toHaveLength(1)
    }), 60_000)

  it.effect("is run again where the process has died without it", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 20; i++) world.publish(`a${i}`)
      let isPoison = true
      const handle = (offset: number, process: Process) => handles(new Set(isPoison ? [3] : []))(offset, process)
      yield* wholeLife(world, 10_000, { handle })
      yield* wholeLife(world, 10_000, { handle })
      const { end, life } = yield* live(world, { handle })
      yield* pass(10_000, () => false)
      expect(life.started).not.toContain(3)
      yield* end
      isPoison = false
      const last = yield* wholeLife(world, 60_000, { handle })
      expect(last.handled).toContain(3)
      expect(last.events).toContainEqual({
        _tag: "Poison",
        what: "cleared",
        subscription: "topic/g",
        topic: "topic",
        partition: 0,
        offset: 3
      })
      expect(last.given).toEqual([])
      expect(world.isDone).toBe(true)
    }), 60_000)

  it.effect("is shown with what it waits for", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 3; i++) world.publish(`a${i}`)
      const handle = handles(new Set([1]))
      yield* wholeLife(world, 10_000, { handle })
      const second = yield* live(world, { handle })
      const waits = (aggregate: string) =>
        Effect.map(second.subscription.control.inspect(aggregate), (one) => Option.getOrUndefined(one)?.waitsFor)
      yield* pass(500, () => false)
      expect(yield* waits("a1")).toBe("suspect")
      expect(yield* second.subscription.control.retryNow("a1")).toBe(false)
      yield* pass(10_000, () => !second.process.isAlive)
      yield* second.end
      const third = yield* live(world, { handle })
      yield* pass(500, () => false)
      const found = yield* third.subscription.control.inspect("a1")
      expect(Option.getOrUndefined(found)?.waitsFor).toBe("probation")
      yield* third.close
    }), 60_000)

  it.effect("that hangs does not keep the others waiting for ever", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 50; i++) world.publish(`a${i}`)
      yield* wholeLife(world, 10_000, { handle: handles(new Set([10])) })
      const { close, life } = yield* live(world, {
        handle: (offset) => offset === 10 ? Effect.never : Effect.sleep(5),
        poison: { alone: "10 seconds" }
      })
      yield* pass(100_000, () => life.handled.length === 49, 500)
      expect(life.handled).toHaveLength(49)
      yield* close
    }), 60_000)
})

describe("a process that dies otherwise", () => {
  it.effect("writes twice where it closes in order, and suspects nobody", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 100; i++) world.publish(`a${i % 10}`)
      const life = yield* wholeLife(world, 10_000, { handle: handles(new Set()) })
      expect(life.handled).toHaveLength(100)
      expect(world.writes).toBe(2)
      expect(world.keys).toEqual([])
    }))

  it.effect("leaves nothing in the store when all that was suspected has ended", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 100; i++) world.publish(`a${i}`)
      const { end } = yield* live(world, { handle: () => Effect.never })
      yield* pass(1_500, () => false)
      yield* end
      const { close, life, subscription } = yield* live(world, { handle: handles(new Set(), 1) })
      yield* pass(50_000, () => false, 500)
      expect(life.handled).toHaveLength(100)
      expect((yield* subscription.stats).suspects).toBe(100)
      expect(world.keys.filter((key) => key.startsWith("hand/"))).toEqual([])
      yield* close
    }), 60_000)

  it.effect(
    "15 lives that are killed at random: nobody is given up, all is handled, and the store stays small",
    () =>
      Effect.gen(function*() {
        const world = new World()
        let seed = 7
        const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
        const handled = new Set<number>()
        let most = 0
        let struck = 0
        for (let number = 0; number < 15; number++) {
          for (let i = 0; i < 40; i++) world.publish(`a${i % 20}`)
          const { end, life } = yield* live(world, { handle: handles(new Set(), 20) })
          yield* pass(random() * 4_000, () => false)
          yield* end
          for (const offset of life.handled) handled.add(offset)
          expect(life.given).toEqual([])
          struck += life.events.filter((event) => event._tag === "Poison" && event.what === "struck").length
          most = Math.max(most, world.keys.length)
        }
        const last = yield* wholeLife(world, 200_000, { handle: handles(new Set(), 5) })
        for (const offset of last.handled) handled.add(offset)
        console.log(`15 lives: ${handled.size} of ${world.log.length} handled, ${struck} struck, at most ${most} keys`)
        expect(last.given).toEqual([])
        expect(handled.size).toBe(world.log.length)
        expect(most).toBeLessThan(60)
      }),
    120_000
  )

  it.effect(
    "whose store does not answer goes on without it after half a minute, and says so",
    () =>
      Effect.gen(function*() {
        const world = new World()
        world.publish("a")
        world.isDown = true
        const { close, life, process } = yield* live(world, { handle: handles(new Set()) })
        yield* pass(29_000, () => false, 500)
        expect(life.handled).toEqual([])
        yield* pass(10_000, () => life.handled.length === 1)
        expect(life.handled).toEqual([0])
        expect(process.isAlive).toBe(true)
        yield* close
      }),
    60_000
  )

  it.effect("whose store hangs is closed all the same, within two seconds more", () =>
    Effect.gen(function*() {
      const world = new World()
      world.publish("a")
      const { close, life } = yield* live(world, { handle: handles(new Set()) })
      yield* pass(1_000, () => life.handled.length === 1)
      world.isStuck = true
      const before = yield* Clock.currentTimeMillis
      yield* close
      expect((yield* Clock.currentTimeMillis) - before).toBeLessThan(2_500)
    }))

  it.effect("whose store dies once it was read goes on without it, and not one round of patience for each suspect", () =>
    Effect.gen(function*() {
      const world = new World()
      for (let i = 0; i < 500; i++) world.publish(`a${i}`)
      const first = yield* live(world, { handle: () => Effect.never })
      yield* pass(1_000, () => first.life.started.length > 400)
      yield* first.end
      const { close, life } = yield* live(world, { handle: handles(new Set()), poison: { alone: "2 seconds" } })
      yield* pass(900, () => false)
      world.isStuck = true
      yield* pass(90_000, () => life.handled.length === 500, 250)
      expect(life.handled).toHaveLength(500)
      yield* close
    }))

  it.effect(
    "many slow suspects are run together after a while, and poison among them is found all the same",
    () =>
      Effect.gen(function*() {
        const world = new World()
        for (let i = 0; i < 400; i++) world.publish(`a${i}`)
        const handle = handles(new Set([390]), 300)
        const poison = { alone: "2 seconds" } as const
        const starts: Array<number> = []
        let given = 0
        for (let number = 1; number <= 6 && given === 0; number++) {
          const life = yield* wholeLife(world, 45_000, { handle, poison })
          starts.push(life.started.filter((offset) => offset === 390).length)
          given += life.given.length
          // It is alone that one is convicted, and nobody else.
          expect(life.events.filter((event) => event._tag === "Poison").every((event) => event.offset === 390)).toBe(
            true
          )
        }
        console.log(`poison among 400 slow ones was started ${starts.join(", ")} times in these lives`)
        expect(given).toBe(1)
        expect(starts.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(4)
        expect(world.isDone).toBe(true)
      }),
    60_000
  )

  it.effect("a subscription on a transport without a store is refused", () =>
    Effect.gen(function*() {
      const process = new Process(new World())
      const { store: _, ...transport } = process.transport
      const error = yield* Effect.flatMap(EventBus.EventBus, (bus) =>
        Effect.flip(bus.subscribe(topic, () =>
          Effect.void, {
          semantics: "at-least-once",
          onExhausted: FailurePolicy.drop,
          poison: {}
        }))).pipe(
          Effect.scoped,
          Effect.provide(EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, transport))))
        )
      expect(error).toMatchObject({
        _tag: "InvalidConfiguration",
        issues: ["poison: the world transport has no store"]
      })
    }))

  it.effect("two suspects of two buses are never in hand at once", () =>
    Effect.gen(function*() {
      const worlds = [new World(), new World()]
      for (const world of worlds) {
        for (let i = 0; i < 30; i++) world.publish(`a${i}`)
        const { end } = yield* live(world, { handle: () => Effect.never })
        yield* pass(1_500, () => false)
        yield* end
      }
      let inHand = 0
      let most = 0
      const handle = () =>
        Effect.suspend(() => {
          most = Math.max(most, ++inHand)
          return Effect.map(Effect.sleep(10), () => void inHand--)
        })
      const lives = yield* Effect.forEach(worlds, (world) => live(world, { handle }))
      yield* pass(60_000, () => worlds.every(({ isDone }) => isDone))
      expect(worlds.every(({ isDone }) => isDone)).toBe(true)
      expect(most).toBe(1)
      for (const { close } of lives) yield* close
    }), 60_000)
})
