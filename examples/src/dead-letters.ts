// What was given up is looked at, released and discarded: the example of docs/dead-letters.md.
import { DeadLetters, EventBus, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Console, Data, Effect, Layer, Logger, LogLevel, Schedule, Schema } from "effect"

class Paid extends Schema.TaggedClass<Paid>()("Paid", { amount: Schema.Number }) {}

const Payments = Topic.envelope("payments", Paid)

class BankUnreachable extends Data.TaggedError("BankUnreachable") {}

let isBankAway = true

const PaymentsLive = Payments.toLayer(
  ({ amount }, { aggregateId }) => isBankAway ? new BankUnreachable() : Console.log(`${aggregateId}: ${amount}`),
  { retry: Schedule.recurs(1), onExhausted: FailurePolicy.deadLetter("payments.dead") }
)

const operator = Effect.scoped(Effect.gen(function*() {
  const letters = yield* DeadLetters.make("payments.dead", { topics: [Payments] })
  const groups = yield* letters.groups()
  for (const { aggregates, cause, letters } of groups) {
    yield* Console.log(`${letters} letters of ${aggregates} aggregates: ${cause.split(" ")[0]}`)
  }
  const by = { who: "ann", why: "INC-1234: the bank's certificate is renewed" }
  yield* letters.discard({ aggregate: "account-2" }, { who: "ann", why: "cancelled by the customer" })
  for (const { cause } of groups) {
    // What would it be?
    const planned = yield* letters.release({ cause }, { ...by, dryRun: true })
    const report = yield* letters.release({ cause }, { ...by, rate: 200 })
    yield* Console.log(`${report.letters} of ${planned.letters} letters are released`)
  }
}))

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const { stats } = yield* bus.find("payments")
  for (const amount of [1, 2, 3]) {
    yield* bus.publish(Payments, { aggregateId: "account-1", payload: new Paid({ amount }) })
  }
  yield* bus.publish(Payments, { aggregateId: "account-2", payload: new Paid({ amount: 4 }) })
  const until = (isDone: (counts: Effect.Effect.Success<typeof stats>) => boolean) =>
    Effect.repeat(Effect.delay(stats, "50 millis"), { until: isDone })
  yield* until(({ deadLettered }) => deadLettered === 4)
  isBankAway = false
  yield* operator
  yield* until(({ handled }) => handled === 3)
})

const AppLive = PaymentsLive.pipe(
  Layer.provideMerge(EventBus.layer),
  // The operator needs the transport, and no bus.
  Layer.provideMerge(MemoryTransport.layer())
)

await Effect.runPromise(program.pipe(Effect.provide(AppLive), Logger.withMinimumLogLevel(LogLevel.None)))
