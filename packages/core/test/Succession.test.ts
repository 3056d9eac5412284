import { EventBus, MemoryBroker, MemoryTransport, Transport } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Layer } from "effect"
import { dropping, Orders } from "./Orders.js"

const topic: Transport.TopicSpec = { name: "orders", kind: "envelope", partitions: 2 }

const request = (group: string, startFrom: Transport.StartFrom = "earliest"): Transport.SubscribeRequest => ({
  topic,
  group,
  semantics: "at-least-once",
  startFrom,
  maxAboveWatermark: 100,
  maxUnfinished: 100,
  drainDeadline: Duration.seconds(1)
})

/** Finishes what it is told to, and remembers what came. */
const consumerOf = (isFinished: (n: number) => boolean) => {
  const taken: Array<Transport.IncomingMessage> = []
  const consumer: Transport.Consumer = {
    assigned: (assignment) => ({
      offer: (messages) => {
        taken.push(...messages)
        for (const message of messages) if (isFinished(numberOf(message))) assignment.finish(message)
        return messages.length
      },
      close: () => Effect.succeed({ unfinished: 0, lost: 0 })
    })
  }
  return { consumer, taken, numbers: () => taken.map(numberOf).sort((a, b) => a - b) }
}

const numberOf = ({ value }: Transport.IncomingMessage) => Number(new TextDecoder().decode(value!))

const publish = (service: Transport.Service, from: number, to: number) =>
  service.publish(
    topic,
    Array.from({ length: to - from }, (_, i) => ({
      id: undefined,
      aggregateId: `a-${(from + i) % 7}`,
      key: null,
      value: new TextEncoder().encode(String(from + i)),
      headers: {},
      timestamp: undefined
    })),
    { timeout: Duration.seconds(5) }
  )

const broker = Layer.provideMerge(MemoryTransport.layerBroker, MemoryBroker.layer())

describe("A group that begins where another one has stopped, in memory", () => {
  it.scoped("gets what that has not finished, and nothing else", () =>
    Effect.gen(function*() {
      const service = yield* Transport.Transport
      yield* publish(service, 0, 40)
      const old = consumerOf((n) => n < 10 || n % 2 === 0)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* service.subscribe(request("old"), old.consumer)
        const refused = yield* Effect.flip(service.subscribe(request("new", { group: "old" }), old.consumer))
        assert.deepInclude(refused, { _tag: "TakeOverRefused", reason: "Alive", isRetryable: true })
      }))
      yield* publish(service, 40, 50)
      const next = consumerOf(() => true)
      yield* Effect.scoped(service.subscribe(request("new", { group: "old" }), next.consumer))
      const expected = Array.from({ length: 50 }, (_, n) => n).filter((n) => n >= 40 || !(n < 10 || n % 2 === 0))
      assert.deepStrictEqual(next.numbers(), expected)
      for (const message of next.taken) assert.strictEqual(message.maybeDuplicate, numberOf(message) < 40)
      // It has a position now.
      yield* service.subscribe(request("old"), old.consumer)
      const again = consumerOf(() => true)
      yield* service.subscribe(request("new", { group: "old" }), again.consumer)
      assert.deepStrictEqual(again.numbers(), [])
    }).pipe(Effect.provide(broker)))

  it.scoped("is refused where there is no such group, where it is in another topic, and for itself", () =>
    Effect.gen(function*() {
      const service = yield* Transport.Transport
      const refusedBy = (group: string) =>
        Effect.flip(service.subscribe(request("new", { group }), consumerOf(() => true).consumer))
      assert.deepInclude(yield* refusedBy("nobody"), { _tag: "TakeOverRefused", reason: "Unknown", isRetryable: false })
      const elsewhere = { ...request("busy"), topic: { ...topic, name: "others" } }
      yield* service.subscribe(elsewhere, consumerOf(() => true).consumer)
      assert.deepInclude(yield* refusedBy("busy"), { _tag: "TakeOverRefused", reason: "OtherTopic" })
      assert.include((yield* refusedBy("new")).message, "this group itself")
      // Nothing was made.
      yield* publish(service, 0, 5)
      const consumer = consumerOf(() => true)
      yield* service.subscribe(request("new"), consumer.consumer)
      assert.lengthOf(consumer.taken, 5)
    }).pipe(Effect.provide(broker)))

  it.scoped("is an option of a subscription, which says what is wrong with it", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscribe = (group: string) =>
        bus.subscribe(Orders, () => Effect.void, { ...dropping, startFrom: { group } })
      const blank = Either.getOrThrow(Either.flip(yield* Effect.either(subscribe(" "))))
      assert.include(blank.message, "startFrom.group: expected a text that is not blank")
      const unknown = Either.getOrThrow(Either.flip(yield* Effect.either(subscribe("nobody"))))
      assert.strictEqual(unknown._tag, "TakeOverRefused")
    }).pipe(Effect.provide(EventBus.layer.pipe(Layer.provide(MemoryTransport.layer())))))
})
