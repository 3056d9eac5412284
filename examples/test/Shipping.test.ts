import { TestBus } from "@effect-eventbus/testing"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck, Layer, Logger, LogLevel } from "effect"
import { Carrier, CarrierDown, OrderPaid, Payments, Shipments, ShippingLive, UnknownAddress } from "../src/shipping.js"

/** The handlers under test, on a bus in memory, with a carrier that each test brings along. */
const shipping = (pickUp: Carrier["Type"]["pickUp"]) =>
  ShippingLive.pipe(
    Layer.provideMerge(TestBus.layer()),
    Layer.provide(Layer.succeed(Carrier, { pickUp })),
    // What is provoked here need not be logged.
    Layer.provide(Logger.minimumLogLevel(LogLevel.None))
  )

const paid = (orderId: string, parcels: number) => ({ aggregateId: orderId, payload: new OrderPaid({ parcels }) })

describe("shipping", () => {
  it.effect("ships what was paid", () =>
    Effect.gen(function*() {
      const receipt = yield* TestBus.publish(Payments, paid("order-1", 2))
      yield* TestBus.expectHandled(receipt)
      const shipments = yield* TestBus.published(Shipments)
      expect(shipments.map(({ aggregateId, event }) => [aggregateId, event.parcels])).toEqual([["order-1", 2]])
    }).pipe(Effect.provide(shipping(() => Effect.void))))

  it.effect("tries again while the carrier is down", () => {
    let calls = 0
    return Effect.gen(function*() {
      const receipt = yield* TestBus.publish(Payments, paid("order-1", 1))
      const { attempts } = yield* TestBus.expectHandled(receipt)
      expect(attempts).toBe(4)
    }).pipe(Effect.provide(shipping(() => ++calls < 4 ? Effect.fail(new CarrierDown()) : Effect.void)))
  })

  it.effect("gives up after nine attempts, which take no time here", () =>
    Effect.gen(function*() {
      const receipt = yield* TestBus.publish(Payments, paid("order-1", 1))
      const { attempts, letter } = yield* TestBus.expectDeadLettered(receipt)
      expect(attempts).toBe(9)
      expect(letter.headers["X-Dead-Letter-Error"]).toBe("CarrierDown")
      expect(yield* TestBus.published(Shipments)).toEqual([])
    }).pipe(Effect.provide(shipping(() => Effect.fail(new CarrierDown())))))

  it.effect("dead-letters an unknown address at once, and goes on with the next payment", () =>
    Effect.gen(function*() {
      const [lost, next] = yield* TestBus.publishAll(Payments, [paid("order-1", 13), paid("order-1", 1)])
      const { failure } = yield* TestBus.expectDeadLettered(lost!)
      expect(failure.attempts).toBe(1)
      yield* TestBus.expectHandled(next!)
    }).pipe(Effect.provide(
      shipping((orderId, parcels) => parcels === 13 ? Effect.fail(new UnknownAddress({ orderId })) : Effect.void)
    )))

  it.effect("survives a bug in the carrier's client: the actor is started again", () => {
    let calls = 0
    return Effect.gen(function*() {
      const receipt = yield* TestBus.publish(Payments, paid("order-1", 1))
      const { attempts } = yield* TestBus.expectHandled(receipt)
      expect(attempts).toBe(2)
    }).pipe(Effect.provide(shipping(() => ++calls === 1 ? Effect.die("undefined is not a function") : Effect.void)))
  })

  it.effect.prop(
    "ships the parcels of each order once and in order, however often the carrier is down",
    {
      payments: FastCheck.array(
        FastCheck.record({
          order: FastCheck.integer({ min: 1, max: 3 }),
          failures: FastCheck.integer({ min: 0, max: 3 })
        }),
        { maxLength: 12 }
      )
    },
    ({ payments }) => {
      // The number of parcels tells one payment from another.
      const failures = payments.map((payment) => payment.failures)
      const pickUp = (_: string, parcels: number) =>
        failures[parcels]!-- > 0 ? Effect.fail(new CarrierDown()) : Effect.void
      return Effect.gen(function*() {
        yield* Effect.forEach(payments, ({ order }, i) => TestBus.publish(Payments, paid(`order-${order}`, i)))
        yield* TestBus.settled()
        const shipments = yield* TestBus.published(Shipments)
        for (const order of [1, 2, 3]) {
          const expected = payments.flatMap((payment, i) => payment.order === order ? [i] : [])
          const shipped = shipments.filter(({ aggregateId }) => aggregateId === `order-${order}`)
          expect(shipped.map(({ event }) => event.parcels)).toEqual(expected)
        }
      }).pipe(Effect.provide(shipping(pickUp)))
    },
    { fastCheck: { numRuns: 15 } }
  )
})
