/** A group that begins where another one has stopped. */
import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  kafka,
  makeConsumer,
  numbered,
  published,
  request,
  spec,
  text,
  transport,
  withAdmin
} from "./Harness.js"

/** Finishes what it is told to, at once. */
const finishing = (which: (n: number) => boolean = () => true) =>
  makeConsumer({
    onTake: ({ assignment }, message) => {
      if (which(Number(text(message.value)))) assignment.finish(message)
    }
  })

const numbersOf = (messages: ReadonlyArray<Transport.IncomingMessage>) =>
  messages.map(({ value }) => Number(text(value))).sort((a, b) => a - b)

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const after = (group: string): Transport.StartFrom => ({ group })

const ids = (i: number) => `a-${i % 40}`

const more = (from: number, to: number) => numbered(to, ids).slice(from)

/** A subscription that ends when the test says so. */
const scoped = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    yield* Scope.extend(effect, scope)
    return Scope.close(scope, Exit.void)
  })

describe("a group that begins where another one has stopped", () => {
  for (const partitions of [1, 3]) {
    it.scopedLive(`gets what that has not finished, and nothing else, in ${partitions} partitions`, () =>
      Effect.gen(function*() {
        const topic = spec(undefined, partitions)
        const service = yield* transport()
        yield* published(service, topic, numbered(120, ids))
        // Some are finished above the watermark: the commit's metadata says so.
        const isFinished = (n: number) => n < 60 || n % 3 === 0
        const old = finishing(isFinished)
        const close = yield* scoped(service.subscribe(request(topic, { group: "old" }), old.consumer))
        yield* eventually("it has read", () => old.all().length >= 120)
        yield* close
        yield* published(service, topic, more(120, 150))
        const next = finishing()
        const begins = request(topic, { group: "new", startFrom: after("old") })
        const end = yield* scoped(service.subscribe(begins, next.consumer))
        const expected = range(0, 150).filter((n) => n >= 120 || !isFinished(n))
        yield* eventually("the rest came", () => next.all().length >= expected.length)
        expect(numbersOf(next.all())).toEqual(expected)
        yield* end
        // It has positions now: the other one is not asked any more, not even whether it is alive.
        yield* service.subscribe(request(topic, { group: "old" }), finishing().consumer)
        yield* published(service, topic, more(150, 160))
        const again = finishing()
        yield* service.subscribe(begins, again.consumer)
        yield* eventually("what is new came", () => again.all().length >= 10)
        expect(numbersOf(again.all())).toEqual(range(150, 160))
      }))
  }

  it.scopedLive("is refused while that one is alive, with its members; two that begin at once share what is left", () =>
    Effect.gen(function*() {
      const topic = spec(undefined, 4)
      const service = yield* transport({ clientId: "billing-app" })
      yield* published(service, topic, numbered(100, ids))
      const old = finishing((n) => n < 50)
      const close = yield* scoped(service.subscribe(request(topic, { group: "old" }), old.consumer))
      yield* eventually("it has read", () => old.all().length === 100)
      const begins = request(topic, { group: "new", startFrom: after("old") })
      const refused = yield* Effect.flip(service.subscribe(begins, finishing().consumer))
      expect(refused).toMatchObject({ _tag: "TakeOverRefused", reason: "Alive", isRetryable: true, from: "old" })
      expect(refused.message).toMatch(/is Stable, billing-app\S* at /)
      yield* close
      const two = [finishing(), finishing()]
      const others = yield* Effect.forEach(two, () => transport())
      yield* Effect.forEach(two, ({ consumer }, i) => others[i]!.subscribe(begins, consumer), { concurrency: 2 })
      const all = () => two.flatMap((one) => one.all())
      yield* eventually("the rest came", () => new Set(numbersOf(all())).size >= 50)
      expect([...new Set(numbersOf(all()))]).toEqual(range(50, 100))
    }))

  it.scopedLive("takes over from a group of others, by its name; where that has no position it begins at the earliest", () =>
    Effect.gen(function*() {
      const topic = spec(undefined, 2)
      const service = yield* transport()
      const receipts = yield* published(service, topic, numbered(100, ids))
      const group = `theirs-${topic.name}`
      const consumer = kafka().consumer({ groupId: group, sessionTimeout: 6_000 })
      yield* Effect.addFinalizer(() => Effect.promise(() => consumer.disconnect()))
      yield* Effect.promise(async () => {
        await consumer.connect()
        await consumer.subscribe({ topic: topic.name, fromBeginning: true })
        await consumer.run({ autoCommit: false, eachMessage: () => Promise.resolve() })
      })
      yield* withAdmin((admin) => admin.describeGroups([group])).pipe(
        Effect.repeat({ until: ({ groups }) => groups[0]!.state === "Stable" }),
        Effect.timeout("20 seconds")
      )
      yield* Effect.promise(() => consumer.commitOffsets([{ topic: topic.name, partition: 0, offset: "20" }]))
      const begins = request(topic, { group: "new", startFrom: after(group) })
      const refused = yield* Effect.flip(service.subscribe(begins, finishing().consumer))
      expect(refused).toMatchObject({ _tag: "TakeOverRefused", reason: "Alive" })
      yield* Effect.promise(() => consumer.disconnect())
      const next = finishing()
      yield* service.subscribe(begins, next.consumer)
      const expected = receipts.flatMap(({ offset, partition }, n) => partition === 1 || offset >= 20 ? [n] : [])
      yield* eventually("the rest came", () => next.all().length >= expected.length)
      expect(numbersOf(next.all())).toEqual(expected)
      for (const { maybeDuplicate, partition } of next.all()) expect(maybeDuplicate).toBe(partition === 0)
    }))

  it.scopedLive("is refused where there is no such group, or it was in another topic", () =>
    Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport()
      const refusedBy = (from: string) =>
        Effect.flip(service.subscribe(request(topic, { group: "new", startFrom: after(from) }), finishing().consumer))
      const unknown = yield* refusedBy(`nobody-${topic.name}`)
      expect(unknown).toMatchObject({ _tag: "TakeOverRefused", reason: "Unknown", isRetryable: false })
      expect(unknown.message).toContain(`looked for: nobody-${topic.name}.${topic.name}, nobody-${topic.name}`)
      const elsewhere = spec()
      yield* published(service, elsewhere, numbered(1))
      const group = `theirs-${topic.name}`
      yield* withAdmin((admin) =>
        admin.setOffsets({ groupId: group, topic: elsewhere.name, partitions: [{ partition: 0, offset: "1" }] })
      )
      expect(yield* refusedBy(group)).toMatchObject({ _tag: "TakeOverRefused", reason: "OtherTopic" })
      // Nothing was made: it can begin elsewhere.
      yield* published(service, topic, numbered(3))
      const consumer = finishing()
      yield* service.subscribe(request(topic, { group: "new" }), consumer.consumer)
      yield* eventually("all came", () => consumer.all().length === 3)
    }))

  it.scopedLive("at most once, what that has settled is not handled again", () =>
    Effect.gen(function*() {
      const topic: Transport.TopicSpec = { ...spec(undefined, 2), kind: "plain" }
      const semantics = "at-most-once"
      const service = yield* transport()
      yield* published(service, topic, numbered(100, ids))
      const old = makeConsumer()
      const close = yield* scoped(service.subscribe(request(topic, { group: "old", semantics }), old.consumer))
      yield* eventually("it has read", () => old.all().length === 100)
      const settled = old.all().filter(({ offset }) => offset % 3 === 0)
      for (const { assignment, taken } of old.lanes) {
        yield* assignment.settle(taken.filter(({ offset }) => offset % 3 === 0))
      }
      yield* close
      const next = makeConsumer()
      yield* service.subscribe(request(topic, { group: "new", semantics, startFrom: after("old") }), next.consumer)
      yield* eventually("the rest came", () => next.all().length >= 100 - settled.length)
      expect([...numbersOf(next.all()), ...numbersOf(settled)].sort((a, b) => a - b)).toEqual(range(0, 100))
    }), Duration.toMillis("60 seconds"))
})
