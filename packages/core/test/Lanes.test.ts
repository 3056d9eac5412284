import { EventBusError, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Logger, TestClock } from "effect"
import type { Flight } from "../src/internal/flight.js"
import { eventually, settle } from "./Eventually.js"
import { setup } from "./LaneProbe.js"
import type { ScriptedAssignment } from "./ScriptedAssignment.js"
import { message, messages } from "./ScriptedAssignment.js"

const closing = { deadline: Duration.seconds(10), finishQueued: true }
const rebalance = { deadline: Duration.seconds(10), finishQueued: false }

const close = (assignment: ScriptedAssignment, options: Parameters<Transport.Lane["close"]>[0]) =>
  Effect.fork(assignment.close(options))

const offsetsOf = (given: ReadonlyArray<Transport.IncomingMessage>) => given.map(({ offset }) => offset)

for (const kind of ["at-least-once", "at-most-once"] as const) {
  describe(`the bounds of an ${kind} lane`, () => {
    it.scoped("hands everything over in order, resumes once for each refusal, and never from within offer", () =>
      Effect.gen(function*() {
        const { assign, probe, settings } = yield* setup(kind, {
          mailboxCapacity: 2,
          maxUnfinished: 5,
          maxBytes: 60,
          maxActors: 4,
          maxSettledAhead: 3
        })
        probe.handle = () => Effect.yieldNow()
        const assignments = [assign(0), assign(1), assign(2)]
        const all: Array<Transport.IncomingMessage> = []
        for (let i = 0; i < 600; i++) {
          const one = message(`a${i % 7}`, { partition: i % 3, value: new Uint8Array(i % 30) })
          all.push(one)
          assignments[i % 3]!.append(one)
        }
        yield* eventually("all are handled", () => probe.ended.length === 600)
        for (const { partition, violations, waiting } of assignments) {
          expect({ violations, waiting }).toEqual({ violations: [], waiting: 0 })
          for (let key = 0; key < 7; key++) {
            const mine = all.filter((one, i) => one.partition === partition && i % 7 === key)
            expect(probe.started.filter((offset) => mine.some((one) => one.offset === offset))).toEqual(offsetsOf(mine))
          }
        }
        yield* settle
        expect([settings.bytes.used, settings.settledAhead.used]).toEqual([0, 0])
      }))

    it.scoped("takes no more than maxUnfinished messages", () =>
      Effect.gen(function*() {
        const { assign, probe } = yield* setup(kind, { maxUnfinished: 5 })
        const gate = yield* Deferred.make<void>()
        probe.handle = () => Deferred.await(gate)
        const one = assign()
        one.append(...messages("a", 8))
        yield* settle
        expect(one.waiting).toBe(3)
        expect(one.resumes).toBe(0)
        yield* Deferred.succeed(gate, undefined)
        yield* eventually("all are handled", () => probe.ended.length === 8)
        expect(one.violations).toEqual([])
      }))

    it.scoped("takes no more bytes than the subscription may hold, over all its lanes, and a larger message alone", () =>
      Effect.gen(function*() {
        const { assign, probe, settings } = yield* setup(kind, { maxBytes: 100 })
        const gates = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        probe.handle = ({ partition }) => Deferred.await(gates[partition]!)
        const [first, second] = [assign(0), assign(1)]
        first.append(...messages("a", 2, { value: new Uint8Array(39) }))
        second.append(message("b", { partition: 1, value: new Uint8Array(500) }))
        yield* settle
        expect([settings.bytes.used, second.waiting]).toEqual([80, 1])
        yield* Deferred.succeed(gates[0]!, undefined)
        yield* eventually("the large one is taken", () => second.waiting === 0)
        first.append(message("a"))
        yield* settle
        expect([settings.bytes.used, first.waiting]).toEqual([501, 1])
        yield* Deferred.succeed(gates[1]!, undefined)
        yield* eventually("all are handled", () => probe.ended.length === 4)
        expect([settings.bytes.used, ...first.violations, ...second.violations]).toEqual([0])
      }))

    it.scoped("gives back everything it held when its partition is taken away, so that the next lanes have all of it", () =>
      Effect.gen(function*() {
        const { assign, probe, settings } = yield* setup(kind, {
          mailboxCapacity: 3,
          maxBytes: 100_000,
          maxSettledAhead: 10
        })
        probe.handle = () => Effect.never
        for (let round = 0; round < 5; round++) {
          const one = assign()
          // One handler that hangs, a full mailbox behind it, a message that is offered to it, and more that waits.
          one.append(...messages("a", 6), ...messages(`b${round}`, 20))
          yield* settle
          const closer = yield* close(one, rebalance)
          yield* TestClock.adjust("11 seconds")
          yield* Fiber.join(closer)
          yield* settle
          expect({ round, bytes: settings.bytes.used, ahead: settings.settledAhead.used }).toEqual({
            round,
            bytes: 0,
            ahead: 0
          })
          expect(one.violations).toEqual([])
        }
        probe.handle = () => Effect.void
        const before = probe.ended.length
        const last = assign()
        last.append(...messages("a", 50))
        yield* eventually("the next lane flights", () => probe.ended.length === before + 50)
      }))

    it.scoped("accounts for a message once when it is interrupted right after it was finished", () =>
      Effect.gen(function*() {
        const { assign, probe, settings } = yield* setup(kind)
        const flights: Array<Flight> = []
        probe.handle = (flight) => Effect.sync(() => void flights.push(flight))
        const one = assign()
        one.append(...messages("a", 3))
        yield* eventually("all are handled", () => probe.ended.length === 3)
        // The fiber can be interrupted between finishing and taking note of it.
        for (const flight of flights) flight.interrupted()
        expect([settings.bytes.used, settings.settledAhead.used]).toEqual([0, 0])
        expect(yield* one.close(closing)).toEqual({ unfinished: 0, lost: 0 })
      }))

    it.scoped("flights off what it took when the subscription closes, and takes nothing more", () =>
      Effect.gen(function*() {
        const { assign, probe } = yield* setup(kind, { maxSettledAhead: 10 })
        const gate = yield* Deferred.make<void>()
        probe.handle = () => Deferred.await(gate)
        const one = assign()
        one.append(...messages("a", 40), ...messages("b", 40))
        yield* settle
        const closer = yield* close(one, closing)
        yield* settle
        expect(one.lane.offer(messages("c", 1))).toBe(0)
        yield* Deferred.succeed(gate, undefined)
        expect(yield* Fiber.join(closer)).toEqual({ unfinished: 0, lost: 0 })
        expect(probe.ended).toHaveLength(80)
        expect(one.violations).toEqual([])
      }))

    it.scoped("is closed at once where nothing is to do", () =>
      Effect.gen(function*() {
        const { assign } = yield* setup(kind)
        expect(yield* assign().close(closing)).toEqual({ unfinished: 0, lost: 0 })
        expect(yield* assign().close(rebalance)).toEqual({ unfinished: 0, lost: 0 })
      }))

    it.scoped("can be closed a second time, and a second closing ends the first one early", () =>
      Effect.gen(function*() {
        const { assign, probe } = yield* setup(kind)
        probe.handle = () => Effect.never
        const one = assign()
        one.append(...messages("a", 3))
        yield* eventually("it runs", () => probe.started.length === 1)
        const first = yield* close(one, { ...closing, deadline: Duration.hours(1) })
        const second = yield* Effect.fork(one.lane.close(rebalance))
        yield* TestClock.adjust("11 seconds")
        const report = kind === "at-least-once" ? { unfinished: 3, lost: 0 } : { unfinished: 0, lost: 3 }
        expect(yield* Fiber.join(second)).toEqual(report)
        if (kind === "at-most-once") yield* TestClock.adjust("1 hours")
        expect(yield* Fiber.join(first)).toEqual(report)
      }))
  })
}

describe("an at-least-once lane", () => {
  it.scoped("says once for each message that it is finished", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-least-once")
      const one = assign()
      const given = [...messages("a", 3), ...messages("b", 3)]
      one.append(...given)
      yield* eventually("all are handled", () => probe.ended.length === 6)
      expect(one.finished.slice().sort((a, b) => a - b)).toEqual(offsetsOf(given))
      expect(settings.subscriber.counters.received).toBe(6)
      expect(one.settled).toEqual([])
    }))

  it.scoped("routes a message that found no room only once, however often it is offered", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-least-once", { mailboxCapacity: 1 })
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const one = assign()
      let routed = 0
      const incoming = settings.incoming as { read: typeof settings.incoming.read }
      const { read } = incoming
      incoming.read = (message) => {
        routed++
        return read(message)
      }
      const given = messages("a", 2)
      one.append(given[0]!)
      for (let i = 0; i < 5; i++) expect(one.lane.offer([given[1]!])).toBe(0)
      expect(routed).toBe(2)
    }))

  it.scoped("interrupts what runs at the deadline of closing and reports what is left", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-least-once")
      probe.handle = ({ key }) => key === "a" ? Effect.never : Effect.void
      const one = assign()
      one.append(...messages("a", 3), ...messages("b", 3))
      yield* eventually("b is done", () => probe.ended.length === 3)
      const closer = yield* close(one, closing)
      yield* TestClock.adjust("9 seconds")
      expect(closer.unsafePoll()).toBeNull()
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 3, lost: 0 })
      expect(one.finished).toHaveLength(3)
      yield* settle
      expect(settings.bytes.used).toBe(0)
      expect(one.violations).toEqual([])
    }))

  it.scoped("lets running handlers end within the deadline when its partition is taken away, and starts no others", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-least-once")
      probe.handle = () => Effect.sleep("5 seconds")
      const one = assign()
      one.append(...messages("a", 3), ...messages("b", 3))
      yield* eventually("both run", () => probe.started.length === 2)
      const closer = yield* close(one, rebalance)
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 4, lost: 0 })
      expect([probe.started.length, probe.ended.length, one.finished.length]).toEqual([2, 2, 2])
      yield* TestClock.adjust("1 minute")
      expect(probe.started).toHaveLength(2)
    }))

  it.scoped("interrupts at once what waits between attempts when its partition is taken away", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-least-once")
      probe.handle = (flight) =>
        Effect.suspend(() => {
          flight.wait("retry")
          return Effect.never
        })
      const one = assign()
      one.append(...messages("a", 2))
      yield* eventually("it waits", () => probe.started.length === 1)
      expect(yield* one.close(rebalance)).toEqual({ unfinished: 2, lost: 0 })
    }))

  it.scoped("lets another lane's messages of the same aggregate go on when it is closed", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-least-once")
      probe.handle = ({ partition }) => partition === 0 ? Effect.never : Effect.void
      const [first, second] = [assign(0), assign(1)]
      first.append(...messages("a", 2))
      second.append(...messages("a", 2, { partition: 1 }))
      const closer = yield* close(first, rebalance)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 2, lost: 0 })
      yield* eventually("the other's are handled", () => second.finished.length === 2)
    }))
})

describe("an at-least-once lane whose partition may be another's (rule 12)", () => {
  it.scoped("starts nothing from then on, however long the transport takes to close it", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-least-once")
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const one = assign()
      one.append(...messages("a", 3), ...messages("b", 3))
      yield* eventually("both run", () => probe.started.length === 2)
      one.owned = false
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("what ran has ended", () => probe.ended.length === 2)
      one.append(...messages("c", 3))
      yield* settle
      expect([probe.started.length, one.finished.length]).toEqual([2, 2])
      // It was taken for another's too early: what was dropped meanwhile must not be overtaken.
      one.owned = true
      one.append(...messages("d", 1))
      yield* settle
      expect(probe.started).toHaveLength(2)
      expect(yield* one.close(rebalance)).toEqual({ unfinished: 8, lost: 0 })
      expect(settings.bytes.used).toBe(0)
      expect(one.violations).toEqual([])
    }))

  it.scoped("makes no further attempt either, and closing does not wait for what is queued", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-least-once")
      const one = assign()
      probe.handle = (flight) =>
        Effect.suspend(() => {
          flight.wait("retry")
          return Effect.flatMap(Effect.sleep("1 second"), () => flight.begin() ? Effect.void : Effect.interrupt)
        })
      one.append(...messages("a", 2))
      yield* eventually("it waits", () => probe.started.length === 1)
      one.owned = false
      const closer = yield* close(one, closing)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 2, lost: 0 })
      expect(probe.ended).toEqual([])
    }))
})

describe("an at-most-once lane", () => {
  it.scoped("starts nothing before its settlement is confirmed", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-most-once")
      const confirmed = yield* Deferred.make<void>()
      const one = assign()
      one.onSettle = () => Deferred.await(confirmed)
      one.append(...messages("a", 2))
      yield* TestClock.adjust("1 minute")
      expect(probe.started).toEqual([])
      yield* Deferred.succeed(confirmed, undefined)
      yield* eventually("both are handled", () => probe.ended.length === 2)
      for (const offset of probe.started) expect(one.settled.flat()).toContain(offset)
    }))

  it.scoped("settles at most a hundred messages ahead of their handlers, over all lanes of the subscription", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-most-once")
      let settled = 0
      let most = 0
      const lanes = [assign(0), assign(1), assign(2)]
      for (const one of lanes) {
        one.onSettle = (offsets) =>
          Effect.sync(() => {
            settled += offsets.length
            most = Math.max(most, settled - probe.ended.length)
          })
      }
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      lanes.forEach((one, partition) => one.append(...messages(`a${partition}`, 300, { partition })))
      yield* settle
      expect(settled).toBe(100)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => probe.ended.length === 900)
      expect(most).toBeLessThanOrEqual(100)
      expect(settings.settledAhead.used).toBe(0)
    }))

  it.scoped("tries a settlement again that can succeed, and starts nothing meanwhile", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-most-once")
      let tries = 0
      const one = assign()
      one.onSettle = () => Effect.suspend(() => ++tries < 4 ? Effect.fail(one.failure(true)) : Effect.void)
      one.append(message("a"))
      yield* eventually("it was tried", () => tries === 1)
      yield* settle
      expect(tries).toBe(1)
      for (let i = 0; i < 20 && tries < 3; i++) yield* TestClock.adjust("100 millis")
      expect(probe.started).toEqual([])
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("100 millis")
      expect([tries, probe.ended.length]).toEqual([4, 1])
    }))

  it.scoped("tries a settlement again that died", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-most-once")
      let tries = 0
      const one = assign()
      one.onSettle = () => Effect.suspend(() => ++tries === 1 ? Effect.die("a bug of the driver") : Effect.void)
      one.append(message("a"))
      yield* eventually("it was tried", () => tries === 1)
      yield* TestClock.adjust("1 seconds")
      yield* eventually("it is handled", () => probe.ended.length === 1)
    }))

  it.scoped("starts nothing and gives everything back when a settlement is refused for good", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-most-once")
      const one = assign()
      one.onSettle = () => Effect.fail(one.failure(false))
      one.append(...messages("a", 5))
      yield* settle
      expect(settings.settledAhead.used).toBe(0)
      expect(yield* one.close(rebalance)).toEqual({ unfinished: 5, lost: 0 })
      expect(probe.started).toEqual([])
      expect(settings.bytes.used).toBe(0)
    }))

  it.scoped("gives up a settlement that never answers at the deadline of closing, and counts as lost what the broker may have settled", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const { assign, settings } = yield* setup("at-most-once", { maxSettledAhead: 4 })
      const one = assign()
      one.onSettle = () => Effect.never
      one.append(...messages("a", 5))
      yield* settle
      const closer = yield* close(one, closing).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      yield* TestClock.adjust("10 seconds")
      // The fifth was never asked for.
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 1, lost: 4 })
      expect([settings.bytes.used, settings.settledAhead.used]).toEqual([0, 0])
      expect(lines.filter((line) => line.includes("topic[0]") && line.includes("4 messages"))).toHaveLength(1)
    }))

  for (const answers of [["Timeout", "Refused"], ["Refused"]] as const) {
    it.scoped(`counts as lost what a settlement that failed by ${answers.join(", then ")} may have settled`, () =>
      Effect.gen(function*() {
        const { assign } = yield* setup("at-most-once")
        const one = assign()
        const left: Array<string> = [...answers]
        one.onSettle = () =>
          Effect.suspend(() =>
            new EventBusError.SettlementFailed({
              topic: "topic",
              partition: 0,
              isRetryable: left.shift() === "Timeout",
              cause: "no"
            })
          )
        one.append(...messages("a", 2))
        yield* settle
        yield* TestClock.adjust("1 seconds")
        const closer = yield* close(one, closing)
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(closer)).toEqual(
          answers.length === 2 ? { unfinished: 0, lost: 2 } : { unfinished: 2, lost: 0 }
        )
      }))
  }

  it.scoped("works off what is settled when its partition is taken away, and leaves the rest unsettled", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-most-once", { maxSettledAhead: 3 })
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const one = assign()
      one.append(...messages("a", 10))
      yield* settle
      const closer = yield* close(one, rebalance)
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 7, lost: 0 })
      expect(probe.ended).toHaveLength(3)
      expect(one.settled.flat()).toHaveLength(3)
    }))

  it.scoped("gives back at once what had not reached a mailbox that another partition's handler blocks", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-most-once", { mailboxCapacity: 1 })
      probe.handle = () => Effect.never
      const [first, second] = [assign(0), assign(1)]
      first.append(message("a"))
      yield* eventually("it runs", () => probe.started.length === 1)
      second.append(...messages("a", 5, { partition: 1 }))
      yield* settle
      expect(settings.settledAhead.used).toBe(6)
      const closer = yield* close(second, rebalance)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 0, lost: 5 })
      expect([settings.settledAhead.used, settings.bytes.used]).toEqual([1, 11])
    }))

  it.scoped("loses no more than a hundred messages when several lanes are closed at the same deadline", () =>
    Effect.gen(function*() {
      const { assign, probe } = yield* setup("at-most-once")
      probe.handle = () => Effect.never
      const lanes = [assign(0), assign(1), assign(2)]
      lanes.forEach((one, partition) => one.append(...messages(`a${partition}`, 200, { partition })))
      yield* settle
      // Timers that are set together do not fire together.
      const closers = yield* Effect.forEach(
        lanes,
        (one, i) => close(one, { ...closing, deadline: Duration.millis(10_000 + i) })
      )
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("1 millis")
      yield* TestClock.adjust("1 millis")
      const reports = yield* Effect.forEach(closers, Fiber.join)
      expect(reports.reduce((sum, { lost }) => sum + lost, 0)).toBe(100)
      expect(reports.reduce((sum, { unfinished }) => sum + unfinished, 0)).toBe(500)
    }))

  it.scoped("counts what was settled and not handled by the deadline as lost, once", () =>
    Effect.gen(function*() {
      const { assign, probe, settings } = yield* setup("at-most-once", { maxSettledAhead: 5, mailboxCapacity: 2 })
      probe.handle = () => Effect.never
      const one = assign()
      one.append(...messages("a", 10))
      yield* settle
      const closer = yield* close(one, closing)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 5, lost: 5 })
      yield* settle
      expect(settings.subscriber.counters.lost).toBe(5)
      expect(yield* one.lane.close(rebalance)).toEqual({ unfinished: 5, lost: 5 })
      expect(settings.subscriber.counters.lost).toBe(5)
    }))
})
