import { EventBus, EventBusConfig, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { eventually } from "./Eventually.js"
import { Clicks, dropping } from "./Orders.js"
import { message, ScriptedAssignment } from "./ScriptedAssignment.js"

/** A bus on a transport that has one partition, whose assignment is given. */
const provideScripted = (assignment: ScriptedAssignment, source: Partial<Transport.Source> = {}) =>
  Effect.provide(
    EventBus.layer.pipe(
      Layer.provide(Layer.succeed(Transport.Transport, {
        name: "scripted",
        capabilities: {
          durable: false,
          binaryHeaders: true,
          tombstones: true,
          partitions: true,
          settlement: "position",
          maxMessageBytes: 1_000_000
        },
        publish: () => Effect.succeed([]),
        subscribe: (_, consumer) =>
          Effect.sync(() => {
            assignment.lane = consumer.assigned(assignment)
            return { stop: Effect.void, ...source }
          })
      })),
      Layer.provide(EventBusConfig.layer({ restartBase: "1 millis", closeDeadline: "1 second" }))
    )
  )

const options = { ...dropping, semantics: "at-least-once" } as const

describe("a transport with a fault", () => {
  it.live("that throws where a message is finished does not keep closing from ending", () => {
    class Faulty extends ScriptedAssignment {
      override readonly finish = (finished: Transport.IncomingMessage) => {
        this.finished.push(finished.offset)
        if (this.finished.length === 1) throw new Error("finish broke")
      }
    }
    const assignment = new Faulty()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let handled = 0
      const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => void handled++), options)
      assignment.append(...Array.from({ length: 5 }, () => message("a")))
      yield* eventually("all are finished", () => assignment.finished.length === 5)
      expect(handled).toBe(5)
      const report = yield* Effect.timeoutOption(Effect.disconnect(subscription.close), "5 seconds")
      expect(report._tag === "Some" && report.value).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(Effect.scoped, provideScripted(assignment))
  }, 10_000)

  it.live("whose subscription breaks by a defect says so", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(Clicks, () => Effect.void, options)
      yield* eventually("it is said", () => lines.length > 0)
      expect(lines[0]).toContain("has broken and handles nothing more: Error: a fault of the transport")
    }).pipe(
      Effect.scoped,
      provideScripted(new ScriptedAssignment(), { failed: Effect.die(new Error("a fault of the transport")) }),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })
})
