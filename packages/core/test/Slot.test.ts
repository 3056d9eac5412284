import { EventBusConfig, Strategy, Supervisor } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, type Fiber, FiberRef, Schedule, Scheduler, Scope, TestClock } from "effect"
import type { Mailbox } from "../src/internal/addressBook.js"
import type { Flight, Subscriber } from "../src/internal/flight.js"
import type { Home } from "../src/internal/home.js"
import { Mailboxes } from "../src/internal/mailboxes.js"
import { Waiter } from "../src/internal/quota.js"
import { defaults } from "./Defaults.js"
import { eventually, settle } from "./Eventually.js"

interface Message {
  readonly key: string
  readonly n: number
}

/** Tasks whose handling the test writes, with a record of what happened. */
class Probe {
  readonly log: Array<string> = []
  readonly fibers = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
  handle: (message: Message, times: number) => Effect.Effect<void> = () => Effect.void
  onGiveUp: (message: Message) => Effect.Effect<void> = () => Effect.void
  private readonly starts = new Map<string, number>()

  task(key: string, message: Message, home: Home) {
    const name = `${message.key}${message.n}`
    const task = {
      key,
      message,
      home,
      mailbox: undefined as Mailbox | undefined,
      run: () =>
        Effect.withFiberRuntime<void>((fiber) => {
          this.fibers.add(fiber)
          const times = (this.starts.get(name) ?? 0) + 1
          this.starts.set(name, times)
          this.log.push(`start ${name}`)
          return Effect.tap(this.handle(message, times), () => Effect.sync(() => this.log.push(`end ${name}`)))
        }),
      crashed: () => void this.log.push(`crashed ${name}`),
      giveUp: (cause: Cause.Cause<never>) => {
        this.log.push(`giveUp ${name} ${Cause.isDie(cause) ? "die" : "interrupt"}`)
        return this.onGiveUp(message)
      },
      interrupted: () => void this.log.push(`interrupted ${name}`),
      left: () => task.mailbox?.left()
    }
    return task
  }

  of(key: string): ReadonlyArray<string> {
    return this.log.filter((line) => line.split(" ")[1]!.startsWith(key))
  }

  get running(): number {
    return Array.from(this.fibers).filter((fiber) => fiber.unsafePoll() === null).length
  }
}

/** The mailboxes of one subscription under a supervisor. */
const openUnder = (supervisor: Supervisor.Service, probe: Probe, capacity = 1_000, name = "test") =>
  Effect.gen(function*() {
    const home = yield* supervisor.home<never>(name)
    const book = new Mailboxes(supervisor, Strategy.actorPerAggregate, defaults(capacity)).open({ home } as Subscriber)
    yield* Effect.addFinalizer(() => book.shutdown)
    const waiters = new Map<() => void, Waiter>()
    return {
      offer: (key: string, message: Message, onRoom: () => void) => {
        const waiter = waiters.get(onRoom) ?? new Waiter(onRoom)
        waiters.set(onRoom, waiter)
        return book.offer(probe.task(key, message, home) as unknown as Flight, waiter)
      },
      interrupt: (which: (message: Message) => boolean) =>
        book.interrupt((flight) => which(flight.message as unknown as Message)),
      live: () => book.live()
    }
  })

const open = (
  probe: Probe,
  options: {
    readonly config?: EventBusConfig.Options
    readonly restart?: Schedule.Schedule<unknown, Cause.Cause<never>>
  } = {}
) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.make(
      options.restart === undefined ? undefined : { restart: options.restart }
    )
    const actors = yield* openUnder(supervisor, probe, options.config?.mailboxCapacity)
    return { supervisor, actors }
  }).pipe(Effect.provide(EventBusConfig.layer(options.config ?? {})))

const never = () => {}
const m = (key: string, n: number): Message => ({ key, n })

describe("a slot under its supervisor", () => {
  it.scoped("handles the messages of one key one after the other, in order, and keys side by side", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      let running = 0
      let most = 0
      const perKey = new Map<string, number>()
      probe.handle = ({ key }) =>
        Effect.gen(function*() {
          running++
          most = Math.max(most, running)
          perKey.set(key, (perKey.get(key) ?? 0) + 1)
          expect(perKey.get(key)).toBe(1)
          yield* Effect.yieldNow()
          perKey.set(key, perKey.get(key)! - 1)
          running--
        })
      const { actors } = yield* open(probe)
      for (let n = 0; n < 200; n++) {
        for (const key of ["a", "b", "c"]) expect(actors.offer(key, m(key, n), never)).toBe(true)
      }
      yield* eventually("all are handled", () => probe.log.length === 1_200)
      for (const key of ["a", "b", "c"]) {
        expect(probe.of(key)).toEqual(
          Array.from({ length: 200 }, (_, n) => [`start ${key}${n}`, `end ${key}${n}`]).flat()
        )
      }
      expect(most).toBe(3)
    }))

  it.scopedLive("runs what it had in hand again although the event loop has to have its turn before", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = (_, times) =>
        Effect.suspend(() => {
          const until = performance.now() + 2
          while (performance.now() < until);
          return times === 1 ? Effect.die("died") : Effect.void
        })
      const { actors } = yield* open(probe, { restart: Schedule.recurs(3) })
      const keys = Array.from({ length: 60 }, (_, i) => `k${i}-`)
      for (const key of keys) actors.offer(key, m(key, 0), never)
      const ended = () => probe.log.filter((line) => line.startsWith("end ")).length
      yield* eventually("all are handled", () => ended() === keys.length)
    }))

  it.scoped("takes up a message that comes between its last look into the mailbox and its wait", () =>
    Effect.gen(function*() {
      // A fiber may have to yield before any of its operations: here so many of them after its first message.
      const left = new Map<unknown, number>()
      const held: Array<() => void> = []
      const yielding: Scheduler.Scheduler = {
        shouldYield: (fiber) => {
          const operations = left.get(fiber) ?? -1
          if (operations >= 0) left.set(fiber, operations - 1)
          return operations === 0 ? 0 : false
        },
        scheduleTask: (task, priority, fiber) => {
          if (left.get(fiber) === -1) held.push(task)
          else Scheduler.defaultScheduler.scheduleTask(task, priority)
        }
      }
      const probe = new Probe()
      const supervisor = yield* Effect.provide(Supervisor.make(), EventBusConfig.layer({}))
      const actors = yield* Effect.withScheduler(openUnder(supervisor, probe), yielding)
      const heldAfter: Array<number> = []
      for (let i = 0; i < 80; i++) {
        const operations = i >> 2
        const both = (i & 1) === 1
        const [early, late] = [`early${i}-`, `late${i}-`]
        probe.handle = ({ key, n }) =>
          Effect.withFiberRuntime((fiber) => {
            if (n === 0 && (both || key === early)) left.set(fiber, operations)
            return Effect.void
          })
        for (const key of (i & 2) === 0 ? [early, late] : [late, early]) actors.offer(key, m(key, 0), never)
        yield* eventually(
          "the first of both are in hand",
          () => probe.of(early).length > 0 && probe.of(late).length > 0
        )
        yield* settle
        if (held.length === (both ? 2 : 1)) heldAfter.push(operations)
        actors.offer(early, m(early, 1), never)
        left.clear()
        for (const task of held.splice(0)) task()
        yield* settle
        actors.offer(late, m(late, 1), never)
        for (const key of [early, late]) {
          yield* eventually(`${key} has handled both`, () => probe.of(key).length === 4)
        }
      }
      expect(heldAfter.slice(0, 8)).toEqual([0, 0, 0, 0, 1, 1, 1, 1])
    }))

  it.scoped("refuses what does not fit into a mailbox, and says once for each who was refused that there is room", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const { actors } = yield* open(probe, { config: { mailboxCapacity: 3 } })
      let first = 0
      let second = 0
      const onFirst = () => void first++
      const onSecond = () => void second++
      // The message in hand counts, too.
      expect(actors.offer("a", m("a", 0), never)).toBe(true)
      yield* eventually("the first is in hand", () => probe.log.length === 1)
      expect(actors.offer("a", m("a", 1), never)).toBe(true)
      expect(actors.offer("a", m("a", 2), never)).toBe(true)
      for (let i = 0; i < 5; i++) expect(actors.offer("a", m("a", 3), onFirst)).toBe(false)
      expect(actors.offer("a", m("a", 3), onSecond)).toBe(false)
      expect(actors.offer("b", m("b", 0), never)).toBe(true)
      yield* settle
      expect([first, second]).toEqual([0, 0])
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => probe.of("a").length === 6)
      expect([first, second]).toEqual([1, 1])
      expect(actors.offer("a", m("a", 4), onFirst)).toBe(true)
      // Room was reserved for each of the two.
      expect(actors.offer("a", m("a", 5), onSecond)).toBe(true)
    }))

  it.scoped("runs the message in hand again first after a crash, by the schedule, with the mailbox as it was", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ n }, times) => n === 1 && times <= 2 ? Effect.die("boom") : Effect.void
      const { actors } = yield* open(probe, { restart: Schedule.exponential("1 second") })
      for (let n = 0; n < 4; n++) actors.offer("a", m("a", n), never)
      yield* eventually("it crashed", () => probe.log.includes("crashed a1"))
      yield* TestClock.adjust("999 millis")
      expect(probe.log).toEqual(["start a0", "end a0", "start a1", "crashed a1"])
      yield* TestClock.adjust("1 millis")
      expect(probe.log.slice(4)).toEqual(["start a1", "crashed a1"])
      yield* TestClock.adjust("1999 millis")
      expect(probe.log).toHaveLength(6)
      yield* TestClock.adjust("1 millis")
      expect(probe.log.slice(6)).toEqual(["start a1", "end a1", "start a2", "end a2", "start a3", "end a3"])
    }))

  it.scoped("gives a message up after three restarts by default, and begins anew with the next one", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ n }, times) => n === 0 || (n === 1 && times <= 3) ? Effect.die("boom") : Effect.void
      const { actors } = yield* open(probe)
      for (let n = 0; n < 3; n++) actors.offer("a", m("a", n), never)
      yield* eventually("it crashed", () => probe.log.length > 0)
      // 100, 200 and 400 ms with jitter, for each of the two messages.
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("100 millis")
      const crash = (name: string) => [`start ${name}`, `crashed ${name}`]
      expect(probe.log).toEqual([
        ...Array.from({ length: 4 }, () => crash("a0")).flat(),
        "giveUp a0 die",
        ...Array.from({ length: 3 }, () => crash("a1")).flat(),
        "start a1",
        "end a1",
        "start a2",
        "end a2"
      ])
    }))

  it.scoped("goes on giving up when giving up dies, and does not handle the message again", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      let gaveUp = 0
      probe.handle = ({ n }) => n === 0 ? Effect.die("boom") : Effect.void
      probe.onGiveUp = () => Effect.suspend(() => ++gaveUp < 3 ? Effect.die("again") : Effect.void)
      const { actors } = yield* open(probe, { restart: Schedule.recurs(1) })
      actors.offer("a", m("a", 0), never)
      actors.offer("a", m("a", 1), never)
      yield* eventually("the next one is handled", () => probe.log.includes("end a1"))
      expect(probe.log.filter((line) => line === "start a0")).toHaveLength(2)
      expect(gaveUp).toBe(3)
    }))

  it.scoped("counts the restarts of each actor apart: a poisonous one slows nobody", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ key }) => key === "bad" ? Effect.die("boom") : Effect.void
      const { actors } = yield* open(probe)
      actors.offer("bad", m("bad", 0), never)
      for (let n = 0; n < 100; n++) actors.offer(`good${n}`, m("good", n), never)
      // No clock is moved: they wait for no schedule.
      yield* eventually("the others are handled", () => probe.of("good").length === 200)
      expect(probe.of("bad")).toEqual(["start bad0", "crashed bad0"])
    }))

  it.scoped("takes a handler that interrupts itself for a crash", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ n }, times) => n === 0 && times === 1 ? Effect.interrupt : Effect.void
      const { actors } = yield* open(probe, { restart: Schedule.recurs(1) })
      actors.offer("a", m("a", 0), never)
      actors.offer("a", m("a", 1), never)
      yield* eventually("both are handled", () => probe.log.includes("end a1"))
      expect(probe.log).toEqual(["start a0", "crashed a0", "start a0", "end a0", "start a1", "end a1"])
    }))

  it.scoped("survives thousands of crashes in a row that need no wait", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = (_, times) => times === 1 ? Effect.die("boom") : Effect.void
      const { actors } = yield* open(probe, { restart: Schedule.recurs(1), config: { mailboxCapacity: 5_000 } })
      for (let n = 0; n < 5_000; n++) actors.offer("a", m("a", n), never)
      yield* eventually("all are handled", () => probe.log.length === 20_000)
    }))

  it.scoped("ends actors that have been idle for five minutes, and no others", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const gate = yield* Deferred.make<void>()
      probe.handle = ({ key }) => key === "busy" ? Deferred.await(gate) : Effect.void
      const { actors, supervisor } = yield* open(probe)
      actors.offer("busy", m("busy", 0), never)
      actors.offer("idle", m("idle", 0), never)
      yield* eventually("one is idle", () => probe.log.includes("end idle0"))
      yield* TestClock.adjust("4 minutes")
      actors.offer("later", m("later", 0), never)
      yield* eventually("another is idle", () => probe.log.includes("end later0"))
      yield* TestClock.adjust("59 seconds")
      expect(actors.live()).toBe(3)
      yield* TestClock.adjust("2 seconds")
      expect(actors.live()).toBe(2)
      yield* TestClock.adjust("4 minutes")
      expect([actors.live(), supervisor.live()]).toEqual([1, 1])
      yield* eventually("their fibers have ended", () => probe.running === 1)
      // A message that comes later has an actor again.
      actors.offer("idle", m("idle", 1), never)
      yield* eventually("it is handled", () => probe.log.includes("end idle1"))
    }))

  it.scoped("ends the actor that has been idle for the longest when the cap of live ones is reached", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const { actors } = yield* open(probe, { config: { maxActors: 2 } })
      for (const key of ["a", "b"]) {
        actors.offer(key, m(key, 0), never)
        yield* eventually("it is handled", () => probe.log.includes(`end ${key}0`))
      }
      actors.offer("a", m("a", 1), never)
      yield* eventually("it is handled", () => probe.log.includes("end a1"))
      // b is idle for longer than a now.
      const before = new Set(probe.fibers)
      expect(actors.offer("c", m("c", 0), never)).toBe(true)
      yield* eventually("it is handled", () => probe.log.includes("end c0"))
      expect(actors.live()).toBe(2)
      actors.offer("a", m("a", 2), never)
      yield* eventually("it is handled", () => probe.log.includes("end a2"))
      expect(Array.from(probe.fibers).filter((fiber) => !before.has(fiber))).toHaveLength(1)
    }))

  it.scoped("refuses a new actor while all are busy, and says once when one is not", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const gate = yield* Deferred.make<void>()
      probe.handle = ({ key }) => key === "a" ? Deferred.await(gate) : Effect.never
      const { actors } = yield* open(probe, { config: { maxActors: 2 } })
      actors.offer("a", m("a", 0), never)
      actors.offer("b", m("b", 0), never)
      let room = 0
      const onRoom = () => void room++
      expect(actors.offer("c", m("c", 0), onRoom)).toBe(false)
      expect(actors.offer("c", m("c", 0), onRoom)).toBe(false)
      // One that lives has room in its mailbox.
      expect(actors.offer("b", m("b", 1), never)).toBe(true)
      yield* settle
      expect(room).toBe(0)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("there is room", () => room > 0)
      yield* settle
      expect(room).toBe(1)
      expect(actors.offer("c", m("c", 0), onRoom)).toBe(true)
    }))

  it.scoped("gives the places of a closed subscription to the others, and tells who waits for one", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = () => Effect.never
      const supervisor = yield* Supervisor.make().pipe(Effect.provide(EventBusConfig.layer({ maxActors: 2 })))
      const scope = yield* Scope.make()
      const first = yield* Scope.extend(openUnder(supervisor, probe, 10, "first"), scope)
      const second = yield* openUnder(supervisor, probe, 10, "second")
      first.offer("a", m("a", 0), never)
      first.offer("b", m("b", 0), never)
      let room = 0
      const onRoom = () => void room++
      expect(second.offer("c", m("c", 0), onRoom)).toBe(false)
      yield* eventually("they run", () => probe.log.length === 2)
      yield* Scope.close(scope, Exit.void)
      expect(supervisor.live()).toBe(0)
      expect(room).toBe(1)
      // The place is reserved for whoever waited.
      expect(second.offer("c", m("c", 0), onRoom)).toBe(true)
      expect(second.offer("d", m("d", 0), never)).toBe(true)
    }))

  it.scoped("interrupts the messages in hand that are meant and goes on with the ones after them", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ n }) => n === 0 ? Effect.never : Effect.void
      const { actors } = yield* open(probe)
      for (const key of ["a", "b"]) for (let n = 0; n < 2; n++) actors.offer(key, m(key, n), never)
      yield* eventually("both run", () => probe.log.length === 2)
      actors.interrupt((message) => message.n === 1)
      yield* settle
      expect(probe.log).toHaveLength(2)
      actors.interrupt((message) => message.key === "a")
      actors.interrupt((message) => message.key === "a")
      yield* eventually("the next one is handled", () => probe.log.includes("end a1"))
      expect(probe.of("a")).toEqual(["start a0", "interrupted a0", "start a1", "end a1"])
      expect(probe.of("b")).toEqual(["start b0"])
    }))

  it.scoped("interrupts a message that waits for its actor's restart", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      probe.handle = ({ n }) => n === 0 ? Effect.die("boom") : Effect.void
      const { actors } = yield* open(probe)
      for (let n = 0; n < 2; n++) actors.offer("a", m("a", n), never)
      yield* eventually("it crashed", () => probe.log.length === 2)
      actors.interrupt(() => true)
      yield* eventually("the next one is handled", () => probe.log.includes("end a1"))
      expect(probe.log).toEqual(["start a0", "crashed a0", "interrupted a0", "start a1", "end a1"])
    }))

  it.scoped("waits for a handler that can't be interrupted, and then goes on with the next message", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const gate = yield* Deferred.make<void>()
      probe.handle = ({ n }) => n === 0 ? Effect.uninterruptible(Deferred.await(gate)) : Effect.void
      const { actors } = yield* open(probe)
      for (let n = 0; n < 2; n++) actors.offer("a", m("a", n), never)
      yield* eventually("it runs", () => probe.log.length === 1)
      actors.interrupt(() => true)
      yield* settle
      expect(probe.log).toHaveLength(1)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("the next one is handled", () => probe.log.includes("end a1"))
      expect(probe.log.filter((line) => line.startsWith("crashed"))).toEqual([])
    }))

  it.effect("leaves no fiber when its scope ends, and says which messages were in hand", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      let finalized = 0
      probe.handle = ({ key }) =>
        key === "crash" ? Effect.die("boom") : Effect.onInterrupt(Effect.never, () => Effect.sync(() => finalized++))
      const scope = yield* Scope.make()
      const { actors, supervisor } = yield* Scope.extend(open(probe), scope)
      for (let i = 0; i < 20; i++) {
        actors.offer(`a${i}`, m("a", i), never)
        actors.offer(`a${i}`, m("b", i), never)
      }
      actors.offer("crash", m("crash", 0), never)
      yield* eventually("all run", () => probe.log.length === 22)
      yield* Scope.close(scope, Exit.void)
      expect(finalized).toBe(20)
      expect(probe.running).toBe(0)
      expect([actors.live(), supervisor.live()]).toEqual([0, 0])
      expect(probe.log.filter((line) => line.startsWith("interrupted"))).toHaveLength(41)
      expect(probe.of("b").every((line) => line.startsWith("interrupted"))).toBe(true)
      yield* TestClock.adjust("10 minutes")
      expect(probe.log.filter((line) => line === "start crash0")).toHaveLength(1)
    }))

  it.live("ends with its scope also where it was made in an uninterruptible region", () =>
    Effect.gen(function*() {
      const done = yield* Effect.scoped(Effect.uninterruptible(open(new Probe()))).pipe(
        Effect.forkDaemon,
        Effect.flatMap((fiber) => Effect.timeoutOption(Effect.fromFiber(fiber), "2 seconds"))
      )
      expect(done._tag).toBe("Some")
    }))

  it.scoped("runs handlers in the context of the subscription, not of whoever offers", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const ref = yield* FiberRef.make("subscriber")
      const seen: Array<string> = []
      probe.handle = () => Effect.flatMap(FiberRef.get(ref), (value) => Effect.sync(() => seen.push(value)))
      const { actors } = yield* open(probe)
      yield* Effect.locally(Effect.sync(() => actors.offer("a", m("a", 0), never)), ref, "publisher")
      yield* eventually("it is handled", () => seen.length === 1)
      expect(seen).toEqual(["subscriber"])
    }))

  it.scoped("annotates the logs of each actor with its subscription and key, beside the subscriber's own annotations", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const seen: Array<Record<string, unknown>> = []
      probe.handle = ({ n }) =>
        Effect.flatMap(Effect.logAnnotations, (annotations) => {
          seen.push(Object.fromEntries(annotations))
          return n === 0 ? Effect.die("a defect") : Effect.void
        })
      const { actors } = yield* Effect.annotateLogs(open(probe, { restart: Schedule.recurs(1) }), { app: "shop" })
      actors.offer("a", m("a", 0), never)
      actors.offer("b", m("b", 1), never)
      yield* eventually("all were called", () => seen.length === 3)
      const common = { app: "shop", "eventbus.subscription": "test" }
      expect(seen.map((one) => one["eventbus.actor"]).sort()).toEqual(["a", "a", "b"])
      expect(seen.map(({ "eventbus.actor": _, ...rest }) => rest)).toEqual([common, common, common])
    }))

  it.scoped("ends the fiber of an idle actor by itself, and interrupts nothing", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const { actors } = yield* open(probe, { config: { maxActors: 1 } })
      actors.offer("a", m("a", 0), never)
      yield* eventually("it is handled", () => probe.log.includes("end a0"))
      const [fiber] = probe.fibers
      actors.offer("b", m("b", 0), never)
      yield* eventually("its fiber has ended", () => fiber!.unsafePoll() !== null)
      expect(fiber!.unsafePoll()).toEqual(Exit.void)
    }))

  it.live("interrupts actors when its scope ends also where the subscriber was uninterruptible", () =>
    Effect.gen(function*() {
      const probe = new Probe()
      const scope = yield* Scope.make()
      probe.handle = () => Effect.never
      const { actors } = yield* Effect.uninterruptible(Scope.extend(open(probe), scope))
      actors.offer("a", m("a", 0), never)
      yield* eventually("it has begun", () => probe.log.includes("start a0"))
      const closed = yield* Scope.close(scope, Exit.void).pipe(
        Effect.forkDaemon,
        Effect.flatMap((fiber) => Effect.timeoutOption(Effect.fromFiber(fiber), "2 seconds"))
      )
      expect(closed._tag).toBe("Some")
      expect(probe.log).toContain("interrupted a0")
    }))
})
