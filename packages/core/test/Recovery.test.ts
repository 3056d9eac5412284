import { EventBus, Observer, RateLimit, type Recovery, Strategy, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, FastCheck as fc, Fiber, Layer, Logger, Stream, TestClock } from "effect"
import { Judge } from "../src/internal/recovery.js"
import { settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder, text } from "./Orders.js"
import { message, ScriptedAssignment } from "./ScriptedAssignment.js"
import { scriptedTransport } from "./scriptedTransport.js"

const publish = (...messages: ReadonlyArray<readonly [aggregate: string, n: number]>) =>
  Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(Orders, messages.map(([id, n]) => placed(id, n))))

const many = (count: number, aggregates = count, from = 0) =>
  publish(...Array.from({ length: count }, (_, i) => [`order-${(from + i) % aggregates}`, from + i] as const))

/** Lets what is due run, and then time pass. */
const pass = (millis: number) => Effect.zipRight(TestClock.adjust(millis), settle)

/** Small steps, so that each timer has its time. */
const passBy = (millis: number, step: number) =>
  Effect.forEach(Array.from({ length: Math.ceil(millis / step) }), () => pass(step), { discard: true })

const unlimited = { rate: "unlimited" } as const

/** A transport with no messages, whose backlog a test sets. */
const provideBacklog = (
  status: Effect.Effect<Transport.SourceStatus> | undefined,
  assignment = new ScriptedAssignment()
) =>
  Effect.provide(
    EventBus.layer.pipe(Layer.provide(Layer.succeed(
      Transport.Transport,
      scriptedTransport((_, consumer) =>
        Effect.sync(() => {
          assignment.lane = consumer.assigned(assignment)
          return { stop: Effect.void, status }
        })
      )
    )))
  )

const statusOf = (
  ends: ReadonlyArray<number | undefined>,
  more: Partial<Transport.SourceStatus> = {}
): Transport.SourceStatus => ({
  isConnected: true,
  problems: [],
  partitions: ends.map((end, partition) => ({
    topic: "orders",
    partition,
    epoch: 1,
    position: 0,
    watermark: 0,
    end,
    movedAt: 0
  })),
  ...more
})

const collect = () => {
  const lines: Array<string> = []
  const events: Array<Observer.Event> = []
  return {
    lines,
    events,
    layer: Layer.mergeAll(
      Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message)))),
      Observer.layer({ event: (event) => void events.push(event) })
    )
  }
}

describe("the judge of a backlog", () => {
  it("turns recovery on at once, and off only after it was small all the time; it changes at most once in that time", () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 0, max: 99 }),
        fc.integer({ min: 0, max: 2_000 }),
        fc.array(
          fc.record({
            messages: fc.integer({ min: 0, max: 200 }),
            isWhole: fc.boolean(),
            after: fc.integer({ min: 1, max: 900 })
          }),
          { maxLength: 60 }
        ),
        (enterAt, part, calmFor, seen) => {
          const leaveAt = Math.min(part, enterAt - 1)
          const judge = new Judge(enterAt, leaveAt, calmFor)
          let [isOn, now] = [false, 0]
          let calmSince: number | undefined
          for (const { after, ...backlog } of seen) {
            now += after
            const was = isOn
            isOn = judge.judge(isOn, backlog, now)
            // All that it saw in that time was small, while it was on.
            calmSince = was && backlog.isWhole && backlog.messages <= leaveAt ? calmSince ?? now : undefined
            if (was) expect(isOn).toBe(calmSince === undefined || now - calmSince < calmFor)
            else expect(isOn).toBe(backlog.messages > enterAt)
          }
        }
      ),
      { numRuns: 500 }
    ))
})

describe("the backlog", () => {
  it.scoped("of a transport that does not tell it turns nothing on, and that is said", () => {
    const { events, layer, lines } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, recovery: {} })
      yield* passBy(8_000, 4_000)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      expect(lines.filter((line) => line.includes("recovery"))).toEqual([
        "Subscription orders/group: its transport does not say how large the backlog is, so only setRecoveryMode turns recovery on"
      ])
      yield* subscription.setRecoveryMode(true)
      yield* passBy(8_000, 4_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      yield* subscription.setRecoveryMode("auto")
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      expect(events.flatMap((event) => event._tag === "Recovery" ? [event.change.reason] : [])).toEqual([
        "hand",
        "unknown"
      ])
    }).pipe(provideBacklog(undefined), Effect.provide(layer))
  })

  it.scoped("that can't be read keeps recovery as it is, and that is said once", () => {
    const { layer, lines } = collect()
    let status: Effect.Effect<Transport.SourceStatus> = Effect.succeed(statusOf([0]))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, recovery: {} })
      status = Effect.die(new Error("broken"))
      yield* passBy(40_000, 4_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      status = Effect.never
      yield* passBy(40_000, 4_000)
      // Setting it does not wait for a status that never comes.
      yield* subscription.setRecoveryMode(false)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      yield* subscription.setRecoveryMode("auto")
      status = Effect.succeed(statusOf([20_000]))
      yield* passBy(10_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      expect(lines.filter((line) => line.includes("status failed"))).toHaveLength(1)
    }).pipe(provideBacklog(Effect.suspend(() => status)), Effect.provide(layer))
  })
})

describe("a subscription with the option", () => {
  it.scoped("begins in recovery, ends it when it has caught up, and begins again when it falls behind", () => {
    const { events, layer, lines } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const open = yield* Deferred.make<void>()
      let isOpen = false
      const { handler, started } = recorder(() => isOpen ? Effect.void : Deferred.await(open))
      const subscription = yield* bus.subscribe(Orders, handler, {
        ...dropping,
        recovery: { enterAt: 50, leaveAt: 10, calmFor: "10 seconds", maxActors: 7 }
      })
      const told = yield* Effect.fork(Stream.runCollect(Stream.take(subscription.recoveryChanges, 2)))
      yield* settle
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      isOpen = true
      yield* passBy(11_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      isOpen = false
      yield* many(60)
      yield* passBy(1_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      isOpen = true
      yield* Deferred.succeed(open, undefined)
      yield* passBy(30_000, 1_000)
      expect(started.length).toBe(60)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      const expected: ReadonlyArray<Recovery.Change> = [
        { isInRecovery: true, reason: "start", backlog: undefined },
        { isInRecovery: false, reason: "calm", backlog: 0 },
        { isInRecovery: true, reason: "backlog", backlog: 60 },
        { isInRecovery: false, reason: "calm", backlog: 0 }
      ]
      expect(Chunk.toReadonlyArray(yield* Fiber.join(told))).toEqual(expected.slice(1, 3))
      expect(events.filter(({ _tag }) => _tag === "Recovery")).toEqual(
        expected.map((change) => ({ _tag: "Recovery", subscription: "orders/group", change }))
      )
      // One line for each.
      expect(lines.filter((line) => line.includes("recovery"))).toEqual([
        "Subscription orders/group is in recovery (start): at most 7 actors, 1000 messages a second",
        expect.stringMatching(
          /^Subscription orders\/group is no longer in recovery \(calm, 0 messages behind\), after 1[01] s$/
        ),
        "Subscription orders/group is in recovery (backlog, 60 messages behind): at most 7 actors, 1000 messages a second",
        expect.stringMatching(/^Subscription orders\/group is no longer in recovery \(calm, 0 messages behind\), after/)
      ])
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("stays as it was set by hand, whatever the backlog is", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => Effect.never, {
        ...dropping,
        recovery: { enterAt: 10, leaveAt: 0, calmFor: "1 second", atStart: false }
      })
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      yield* subscription.setRecoveryMode(true)
      yield* passBy(10_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      yield* subscription.setRecoveryMode(false)
      yield* many(40)
      yield* passBy(10_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      yield* subscription.setRecoveryMode("auto")
      yield* passBy(1_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      yield* subscription.close
      yield* subscription.setRecoveryMode(false)
      expect(Chunk.size(yield* Stream.runCollect(subscription.recoveryChanges))).toBe(0)
    }).pipe(provideBus({ closeDeadline: "0 millis" })))
})

describe("a subscription without the option", () => {
  it.scoped("does not look at its backlog, and is put into recovery by hand", () => {
    let looks = 0
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => Effect.void, dropping)
      yield* passBy(20_000, 5_000)
      expect(looks).toBe(0)
      const timers = Chunk.size(yield* TestClock.sleeps())
      yield* subscription.setRecoveryMode("auto")
      yield* passBy(10_000, 1_000)
      expect(looks).toBeGreaterThan(9)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      yield* subscription.setRecoveryMode(false)
      yield* passBy(5_000, 1_000)
      looks = 0
      yield* passBy(20_000, 5_000)
      expect(looks).toBe(0)
      expect(Chunk.size(yield* TestClock.sleeps())).toBe(timers)
    }).pipe(provideBacklog(Effect.sync(() => {
      looks++
      return statusOf([100_000])
    })))
  })
})

describe("in recovery", () => {
  it.scoped("a status that does not answer is said, and once more where it does not answer again later", () => {
    const { layer, lines } = collect()
    let isSilent = true
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, recovery: {} })
      const said = () => lines.filter((line) => line.includes("the transport's status failed")).length
      const over = () => lines.filter((line) => line.includes("the transport's status is read again, after"))
      // What does not last is not said.
      yield* passBy(4_000, 1_000)
      isSilent = false
      yield* passBy(10_000, 1_000)
      expect([said(), over().length]).toEqual([0, 0])
      isSilent = true
      yield* passBy(9_000, 1_000)
      expect(said()).toBe(0)
      yield* passBy(21_000, 1_000)
      expect(said()).toBe(1)
      isSilent = false
      yield* passBy(8_000, 1_000)
      expect(over()).toEqual([expect.stringMatching(/, after [23]\d s$/)])
      isSilent = true
      yield* passBy(30_000, 1_000)
      expect([said(), over().length]).toEqual([2, 1])
    }).pipe(
      provideBacklog(Effect.suspend(() => isSilent ? Effect.never : Effect.succeed(statusOf([0])))),
      Effect.provide(layer)
    )
  })

  it.scoped("it is said where recovery can't end because the end of a partition stays unknown", () => {
    const { layer, lines } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, recovery: {} })
      const said = () => lines.filter((line) => line.includes("stays in recovery"))
      yield* passBy(9_000, 1_000)
      expect(said()).toEqual([])
      yield* passBy(60_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      expect(said()).toEqual([expect.stringContaining("of 1 partitions the end is not known")])
    }).pipe(provideBacklog(Effect.succeed(statusOf([0, undefined]))), Effect.provide(layer))
  })

  it.scoped("a transport that throws when there is room keeps no other partition from it, and the backlog is looked at", () => {
    const { layer, lines } = collect()
    const assignment = new class extends ScriptedAssignment {
      override readonly resume = () => {
        throw new Error("resume broke")
      }
    }()
    let backlog = 20_000
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const subscription = yield* bus.subscribe(Clicks, () => Deferred.await(gate), {
        ...dropping,
        semantics: "at-least-once",
        recovery: { calmFor: "2 seconds", rate: { perSecond: 0.001, burst: 1 } }
      })
      assignment.append(message("a"), message("b"))
      backlog = 0
      yield* passBy(4_000, 1_000)
      expect(lines.filter((line) => line.includes("resume broke"))).toHaveLength(1)
      expect(yield* subscription.isInRecoveryMode).toBe(false)
      backlog = 20_000
      yield* passBy(2_000, 1_000)
      expect(yield* subscription.isInRecoveryMode).toBe(true)
      yield* Deferred.succeed(gate, undefined)
    }).pipe(provideBacklog(Effect.sync(() => statusOf([backlog])), assignment), Effect.provide(layer))
  })

  it.scoped("so many actors live and no more; the one that has been idle for longest makes room", () => {
    const { events, layer } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gates = new Map<string, Deferred.Deferred<void>>()
      const started: Array<string> = []
      const subscription = yield* bus.subscribe(Orders, (_, { aggregateId }) =>
        Effect.suspend(() => {
          started.push(aggregateId)
          const gate = gates.get(aggregateId)
          return gate === undefined ? Effect.void : Deferred.await(gate)
        }), { ...dropping, recovery: { ...unlimited, maxActors: 3 } })
      const gate = (...ids: ReadonlyArray<string>) =>
        Effect.forEach(ids, (id) => Effect.map(Deferred.make<void>(), (one) => void gates.set(id, one)))
      const open = (id: string) =>
        Effect.zipRight(Deferred.succeed(gates.get(id)!, undefined), Effect.sync(() => gates.delete(id)))
      const actors = Effect.map(subscription.stats, ({ actors }) => actors)

      yield* publish(["a", 1], ["b", 2], ["c", 3])
      yield* settle
      expect(yield* actors).toBe(3)
      yield* publish(["a", 4])
      yield* settle
      // Of those that are idle "b" has been so for longest, then "c", then "a".
      const live = Effect.map(bus.dispatch.report, () => started.slice())
      yield* gate("d", "e", "f")
      yield* publish(["d", 5], ["e", 6])
      yield* settle
      expect(yield* actors).toBe(3)
      expect((yield* subscription.stats).endedActors).toBe(2)
      expect(yield* live).toEqual(["a", "b", "c", "a", "d", "e"])
      // "a" is the one that is left. It is busy now, so "f" waits for one that ends.
      yield* gate("a")
      yield* publish(["a", 7], ["f", 8])
      yield* settle
      expect((yield* subscription.stats).endedActors).toBe(2)
      expect(started.slice(6)).toEqual(["a"])
      yield* open("d")
      yield* settle
      expect(started.slice(6)).toEqual(["a", "f"])
      expect(yield* actors).toBe(3)
      for (const id of ["a", "e", "f"]) yield* open(id)
      yield* settle
      expect(yield* actors).toBe(3)
      yield* subscription.setRecoveryMode(false)
      yield* many(20)
      yield* settle
      expect(yield* actors).toBe(23)
      // Too many are idle now: all but three end at once.
      yield* subscription.setRecoveryMode(true)
      yield* settle
      expect(yield* actors).toBe(3)
      expect(events.some((event) => event._tag === "Bound" && event.bound === "actors")).toBe(false)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("those that are busy when it begins go on, and end when they are idle", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      let ended = 0
      const subscription = yield* bus.subscribe(
        Orders,
        () => Effect.zipRight(Deferred.await(gate), Effect.sync(() => void ended++)),
        dropping
      )
      yield* many(20)
      yield* settle
      yield* subscription.setRecoveryMode("auto")
      yield* subscription.setRecoveryMode(true)
      yield* many(20, 40, 20)
      yield* settle
      expect((yield* subscription.stats).actors).toBe(40)
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      expect(ended).toBe(40)
    }).pipe(provideBus()))

  it.scoped("the bound holds with other partitions and subscriptions that wait, and the bus's own bound", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const most = { one: 0, other: 0 }
      const running = { one: 0, other: 0 }
      let handled = 0
      const handler = (name: "one" | "other") => () =>
        Effect.acquireUseRelease(
          Effect.sync(() => void (most[name] = Math.max(most[name], ++running[name]))),
          () => Effect.sleep(10),
          () =>
            Effect.sync(() => {
              running[name]--
              handled++
            })
        )
      yield* many(120, 40)
      const options = (maxActors: number) => ({ ...dropping, recovery: { ...unlimited, maxActors } })
      const one = yield* bus.subscribe(Orders, handler("one"), { ...options(4), group: "one" })
      yield* bus.subscribe(Orders, handler("other"), { ...options(50), group: "other" })
      // A crowd of flips while messages wait for places of both kinds.
      for (let i = 0; i < 20; i++) {
        yield* pass(10)
        yield* one.setRecoveryMode(i % 3 === 0 ? false : true)
      }
      yield* passBy(5_000, 500)
      expect(handled).toBe(240)
      expect(most.other).toBeLessThanOrEqual(8)
    }).pipe(provideBus({ maxActors: 8 })))

  for (const [name, topic] of [["envelopes", Orders], ["plain messages", Clicks]] as const) {
    it.scoped(`${name} that wait for an actor or for the rate go on when it ends`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const started: Array<string> = []
        const handler = (_: unknown, { key }: { readonly key: Uint8Array | null }) =>
          Effect.suspend(() => {
            started.push(text(key))
            return text(key) === "a" ? Effect.never : Effect.void
          })
        const waiting = (recovery: Recovery.Options, group: string) =>
          topic === Orders
            ? bus.subscribe(Orders, handler, { ...dropping, recovery, group })
            : bus.subscribe(Clicks, handler, { recovery, group })
        if (topic === Orders) yield* publish(["a", 1], ["b", 2], ["c", 3])
        else yield* bus.publishAll(Clicks, ["a", "b", "c"].map((key) => ({ key, body: key })))
        for (const recovery of [{ ...unlimited, maxActors: 1 }, { rate: { perSecond: 0.001, burst: 1 } }]) {
          started.length = 0
          const subscription = yield* waiting(recovery, `group-${String(recovery.rate)}`)
          yield* settle
          expect(started).toEqual(["a"])
          yield* subscription.setRecoveryMode(false)
          yield* settle
          expect(started).toEqual(["a", "b", "c"])
        }
      }).pipe(provideBus({ closeDeadline: "0 millis" })))
  }

  it.scoped("slots that all subscriptions share have no such bound", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder()
      yield* bus.subscribe(Orders, handler, { ...dropping, recovery: { ...unlimited, maxActors: 1 } })
      yield* many(100)
      yield* settle
      expect(ended).toHaveLength(100)
      yield* bus.dispatch.switchTo("actor-per-aggregate")
      yield* many(100)
      yield* settle
      expect(ended).toHaveLength(200)
      expect((yield* bus.subscriptions)[0]).toBeDefined()
    }).pipe(provideBus(), Effect.provide(Strategy.layer(Strategy.actorPool))))

  it.scoped("messages come at a rate, beside the subscription's own", () => {
    const { events, layer } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder()
      const rate = yield* RateLimit.make("unlimited")
      yield* many(40)
      const subscription = yield* bus.subscribe(Orders, handler, {
        ...dropping,
        rate,
        recovery: { rate: { perSecond: 10, burst: 5 } }
      })
      yield* settle
      expect(started).toHaveLength(5)
      yield* pass(1_000)
      expect(started).toHaveLength(15)
      yield* rate.set({ perSecond: 2, burst: 1 })
      yield* passBy(2_000, 100)
      expect(started.length).toBeLessThanOrEqual(20)
      yield* rate.set("unlimited")
      yield* subscription.setRecoveryMode(false)
      yield* settle
      expect(started).toHaveLength(40)
      yield* many(100)
      yield* settle
      expect(started).toHaveLength(140)
      const bounds = events.flatMap((event) =>
        event._tag === "Bound" && event.bound === "rate" ? [event.isReached] : []
      )
      bounds.forEach((isReached, i) => expect(isReached).toBe(i % 2 === 0))
      expect(bounds.at(-1)).toBe(false)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("at-most-once messages come at the rate, too, and none is lost when it closes", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let started = 0
      const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => started++), {
        recovery: { rate: { perSecond: 10, burst: 2 }, maxActors: 1 }
      })
      yield* bus.publishAll(Clicks, Array.from({ length: 10 }, (_, i) => ({ body: "click", key: `${i}` })))
      yield* pass(300)
      expect(started).toBe(5)
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(provideBus()))

  for (
    const { name, subscribe, topic } of [
      {
        name: "envelopes",
        topic: "orders",
        subscribe: (handler: () => Effect.Effect<void>, recovery: Recovery.Options) =>
          Effect.flatMap(EventBus.EventBus, (bus) =>
            Effect.zipRight(
              bus.publishAll(Orders, ["a", "b"].map((id, n) => placed(id, n))),
              bus.subscribe(Orders, handler, { ...dropping, recovery })
            ))
      },
      {
        name: "plain messages",
        topic: "clicks",
        subscribe: (handler: () => Effect.Effect<void>, recovery: Recovery.Options) =>
          Effect.flatMap(EventBus.EventBus, (bus) =>
            Effect.zipRight(
              bus.publishAll(Clicks, ["a", "b"].map((key) => ({ key, body: key }))),
              bus.subscribe(Clicks, handler, { recovery })
            ))
      }
    ]
  ) {
    it.scoped(`${name} that wait for an actor for the send timeout are reported`, () => {
      const { events, layer, lines } = collect()
      return Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        yield* subscribe(() => Deferred.await(gate), { ...unlimited, maxActors: 1 })
        const told = () => events.flatMap((event) => event._tag === "Bound" && event.bound === "send" ? [event] : [])
        yield* passBy(4_000, 1_000)
        expect(told()).toEqual([])
        yield* passBy(2_000, 1_000)
        const bound = { _tag: "Bound", bound: "send", subscription: `${topic}/group`, partition: 0 }
        expect(told()).toEqual([{ ...bound, isReached: true }])
        expect(lines.filter((line) => line.includes("has waited"))).toEqual([
          expect.stringContaining(
            `Subscription ${topic}/group, in recovery: the next message of 1 partitions has waited for 5s for room in its mailbox, or for an actor, and goes on waiting: ${topic}[0] (`
          )
        ])
        yield* passBy(20_000, 5_000)
        expect(told()).toHaveLength(1)
        yield* Deferred.succeed(gate, undefined)
        yield* passBy(1_000, 1_000)
        expect(told()).toEqual([{ ...bound, isReached: true }, { ...bound, isReached: false }])
      }).pipe(provideBus(), Effect.provide(layer))
    })
  }

  it.scoped("a mailbox that is full for the send timeout is reported, until recovery ends", () => {
    const { events, layer } = collect()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(["a", 1], ["a", 2], ["a", 3])
      const subscription = yield* bus.subscribe(Orders, () => Effect.never, {
        ...dropping,
        recovery: { ...unlimited, sendTimeout: "2 seconds" }
      })
      const told = () =>
        events.flatMap((event) => event._tag === "Bound" && event.bound === "send" ? [event.isReached] : [])
      yield* passBy(3_000, 1_000)
      expect(told()).toEqual([true])
      yield* subscription.setRecoveryMode(false)
      expect(told()).toEqual([true, false])
    }).pipe(provideBus({ mailboxCapacity: 2, closeDeadline: "0 millis" }), Effect.provide(layer))
  })

  it.scoped("actors that are idle for the idle timeout end, also where the bus lets them live", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler } = recorder()
      const subscription = yield* bus.subscribe(Orders, handler, { ...dropping, recovery: unlimited })
      yield* subscription.setRecoveryMode(true)
      const actors = Effect.map(subscription.stats, ({ actors }) => actors)
      yield* many(10)
      yield* settle
      yield* pass(200_000)
      yield* publish(["order-3", 100])
      yield* settle
      yield* pass(99_000)
      expect(yield* actors).toBe(10)
      yield* passBy(2_000, 1_000)
      expect(yield* actors).toBe(1)
      yield* passBy(300_000, 100_000)
      expect(yield* actors).toBe(0)
      yield* subscription.setRecoveryMode(false)
      yield* many(10)
      yield* passBy(900_000, 100_000)
      expect(yield* actors).toBe(10)
    }).pipe(provideBus({ actorIdleTimeout: "1 hour" })))
})

describe("options that are wrong", () => {
  for (
    const [recovery, issue] of [
      [{ maxActors: 0 }, "recovery.maxActors: expected a whole number of at least 1, got 0"],
      [{ enterAt: 10, leaveAt: 10 }, "recovery.leaveAt: expected less than enterAt (10), got 10"],
      [{ leaveAt: 20_000 }, "recovery.leaveAt: expected less than enterAt (10000), got 20000"],
      [{ rate: { perSecond: 0 } }, "recovery.rate: perSecond: expected a number above 0, got 0"],
      [{ rate: 100 }, "recovery.rate: expected a limit such as { perSecond: 1000 }, or \"unlimited\""],
      [
        { sendTimeout: "soon" },
        "recovery.sendTimeout: expected a duration such as \"10 seconds\", above zero, got soon"
      ],
      [{ maxActor: 1 }, "recovery.maxActor: unknown setting"],
      [true, "recovery: expected options, such as {}"]
    ] as const
  ) {
    it.scoped(issue, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const options = { ...dropping, recovery: recovery as unknown as Recovery.Options }
        expect(yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, options))).toMatchObject({ issues: [issue] })
      }).pipe(provideBus()))
  }
})
