// An order whose price is wrong is parked, and released when the price is mended: the example of docs/parking.md.
import { EventBus, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Console, Data, Effect, Layer, Logger, LogLevel, Schedule, Schema } from "effect"

class Step extends Schema.TaggedClass<Step>()("Step", { what: Schema.String }) {}

const Orders = Topic.envelope("orders", Step, { partitions: 1 })

class PriceWrong extends Data.TaggedError("PriceWrong") {}

let isPriceWrong = true

const handle = ({ what }: Step, { aggregateId }: { readonly aggregateId: string }): Effect.Effect<void, PriceWrong> =>
  aggregateId === "order-1" && what === "pay" && isPriceWrong
    ? new PriceWrong()
    : Console.log(`${aggregateId}: ${what}`)

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const { control, stats } = yield* bus.subscribe(Orders, handle, {
    retry: Schedule.recurs(2),
    onExhausted: FailurePolicy.park({
      undecodable: FailurePolicy.drop,
      onDiscarded: ({ aggregate, offset }) => Console.log(`${aggregate} goes on without offset ${offset}`)
    })
  })
  const publish = (aggregateId: string, ...steps: ReadonlyArray<string>) =>
    bus.publishAll(Orders, steps.map((what) => ({ aggregateId, payload: new Step({ what }) })))

  yield* publish("order-1", "place", "pay", "ship")
  yield* publish("order-2", "place", "pay", "ship")
  yield* stats.pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: ({ handled, parked }) => handled + parked === 6 })
  )

  // order-1 was placed, and waits in two letters. Nobody else does.
  for (const { cause, letters } of yield* control.causes) {
    yield* Console.log(`${letters} letters wait for ${cause.split(" ")[0]}`)
  }
  isPriceWrong = false
  yield* control.release({ aggregate: "order-1" }, { who: "anna", why: "the price is mended" })
  // A newer message comes behind the letters.
  yield* publish("order-1", "deliver")
  const { aggregates } = yield* control.parked().pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: ({ aggregates }) => aggregates.length === 0 })
  )
  yield* stats.pipe(Effect.delay("50 millis"), Effect.repeat({ until: ({ handled }) => handled === 7 }))
  yield* Console.log(`${aggregates.length} aggregates are parked`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(EventBus.layer.pipe(Layer.provide(MemoryTransport.layer()))),
  // The bus says of each failure that it was parked.
  Logger.withMinimumLogLevel(LogLevel.None),
  Effect.runPromise
)
