import { EventBus, EventBusConfig, EventBusError, MemoryTransport, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Fiber, Layer } from "effect"
import { settle } from "./Eventually.js"
import { Orders, placed } from "./Orders.js"

/** The memory transport, whose answers the test writes. */
const scripted = () => {
  const sent: Array<ReadonlyArray<string | undefined>> = []
  const script = { fails: (_: string | undefined) => false, hangs: false }
  const layer = Layer.effect(
    Transport.Transport,
    Effect.map(Transport.Transport, (transport) =>
      Transport.Transport.of({
        ...transport,
        publish: (topic, messages, options) => {
          sent.push(messages.map(({ aggregateId }) => aggregateId))
          if (script.hangs) return Effect.never
          return Effect.map(transport.publish(topic, messages, options), (results) =>
            results.map((result, i) =>
              script.fails(messages[i]!.aggregateId)
                ? Either.left(
                  new EventBusError.PublishFailed({ topic: topic.name, reason: "Timeout", outcome: "unknown" })
                )
                : result
            ))
        }
      }))
  ).pipe(Layer.provide(MemoryTransport.layer()))
  const bus = (stopAfterFailedPublish: boolean) =>
    Effect.provide(
      EventBus.layer.pipe(Layer.provide(layer), Layer.provide(EventBusConfig.layer({ stopAfterFailedPublish })))
    )
  return { sent, script, bus }
}

const tagsOf = (results: ReadonlyArray<Either.Either<unknown, EventBusError.PublishError>>) =>
  results.map((result) => Either.isRight(result) ? "written" : result.left._tag)

describe("publishing of an aggregate that failed", () => {
  it.scoped("stops until the application says to go on, and others go on", () => {
    const { bus, script, sent } = scripted()
    return Effect.gen(function*() {
      const { publish, publishAll, publishing } = yield* EventBus.EventBus
      script.fails = (aggregate) => aggregate === "a"
      const first = yield* Effect.flip(publish(Orders, placed("a", 1)))
      expect(first).toMatchObject({ _tag: "PublishFailed", outcome: "unknown" })
      script.fails = () => false
      const stopped = yield* Effect.flip(publish(Orders, placed("a", 2)))
      expect(stopped).toMatchObject({ _tag: "PublishStopped", aggregate: "a", cause: first, isRetryable: true })
      expect(stopped.message).toContain("bus.publishing.resume")
      expect(EventBusError.isEventBusError(stopped)).toBe(true)
      const all = yield* Effect.flip(publishAll(Orders, [placed("a", 3), placed("b", 4), placed("a", 5)]))
      expect(tagsOf(all.results)).toEqual(["PublishStopped", "written", "PublishStopped"])
      expect(sent).toEqual([["a"], ["b"]])
      expect(yield* publishing.stopped).toEqual([{ topic: "orders", aggregate: "a", cause: first }])
      expect(yield* publishing.resume(Orders, "b")).toBe(false)
      expect(yield* publishing.resume("orders", "a")).toBe(true)
      yield* publish(Orders, placed("a", 6))
      expect(yield* publishing.stopped).toEqual([])
    }).pipe(bus(true))
  })

  it.scoped("is not followed by a later message of the same call; one at a time is on its way", () => {
    const { bus, script, sent } = scripted()
    return Effect.gen(function*() {
      const { publishAll, publishing } = yield* EventBus.EventBus
      let count = 0
      script.fails = (aggregate) => aggregate === "a" && ++count === 2
      const { results } = yield* Effect.flip(publishAll(Orders, [
        placed("a", 1),
        placed("a", 2),
        placed("b", 1),
        placed("a", 3),
        placed("b", 2)
      ]))
      expect(tagsOf(results)).toEqual(["written", "PublishFailed", "written", "PublishStopped", "written"])
      expect(sent).toEqual([["a", "b"], ["a", "b"]])
      expect(yield* publishing.resume(Orders)).toBe(true)
      expect(yield* publishing.resume(Orders)).toBe(false)
    }).pipe(bus(true))
  })

  it.scoped("stops, too, when the publisher was interrupted, and for keys of plain messages; without a key nothing stops", () => {
    const { bus, script } = scripted()
    const Plain = Topic.plain("plain")
    return Effect.gen(function*() {
      const { publish, publishing } = yield* EventBus.EventBus
      script.hangs = true
      const fiber = yield* Effect.fork(publish(Plain, { key: new TextEncoder().encode("k"), body: "1" }))
      const other = yield* Effect.fork(publish(Plain, { body: "1" }))
      yield* settle
      yield* Fiber.interruptAll([fiber, other])
      script.hangs = false
      expect(yield* Effect.flip(publish(Plain, { key: "k", body: "2" }))).toMatchObject({
        _tag: "PublishStopped",
        aggregate: "k",
        cause: { outcome: "unknown" }
      })
      yield* publish(Plain, { body: "2" })
      expect((yield* publishing.stopped).length).toBe(1)
    }).pipe(bus(true))
  })

  it.scoped("goes on where the bus has no such setting", () => {
    const { bus, script, sent } = scripted()
    return Effect.gen(function*() {
      const { publish, publishAll, publishing } = yield* EventBus.EventBus
      script.fails = () => true
      yield* Effect.flip(publish(Orders, placed("a", 1)))
      const { results } = yield* Effect.flip(publishAll(Orders, [placed("a", 2), placed("a", 3)]))
      expect(tagsOf(results)).toEqual(["PublishFailed", "PublishFailed"])
      expect(sent).toEqual([["a"], ["a", "a"]])
      expect(yield* publishing.stopped).toEqual([])
    }).pipe(bus(false))
  })

  it.scoped("stops the topic as a whole with more than 10,000 aggregates, and not others", () => {
    const { bus, script } = scripted()
    return Effect.gen(function*() {
      const { publish, publishAll, publishing } = yield* EventBus.EventBus
      script.fails = (aggregate) => aggregate !== "fine"
      const Other = Topic.plain("other")
      yield* Effect.flip(publishAll(Orders, Array.from({ length: 10_001 }, (_, i) => placed(`a-${i}`, i))))
      expect((yield* publishing.stopped).length).toBe(10_001)
      expect(yield* Effect.flip(publish(Orders, placed("fine", 1)))).toMatchObject({
        _tag: "PublishStopped",
        aggregate: undefined
      })
      script.fails = () => false
      yield* publish(Other, { key: "fine", body: "1" })
      expect(yield* publishing.resume(Orders)).toBe(true)
      yield* publish(Orders, placed("a-1", 1))
    }).pipe(bus(true))
  })
})
