// How typed failures, defects and undecodable bytes are handled: the example of docs/failure-handling.md.
import { EventBus, EventBusConfig, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Console, Data, Effect, Layer, Logger, LogLevel, Schema } from "effect"

class PaymentRequested extends Schema.TaggedClass<PaymentRequested>()("PaymentRequested", { amount: Schema.Number }) {}

const Payments = Topic.envelope("payments", PaymentRequested)
const DeadPayments = Topic.envelope("payments.dead", PaymentRequested)

class BankOffline extends Data.TaggedError("BankOffline") {}
class CardStolen extends Data.TaggedError("CardStolen") {}
class AccountClosed extends Data.TaggedError("AccountClosed") {}

const pay = (event: PaymentRequested, attempt: number) =>
  Effect.gen(function*() {
    if (event.amount === 2 && attempt < 3) return yield* new BankOffline()
    if (event.amount === 3) return yield* new CardStolen()
    if (event.amount === 4) return yield* new AccountClosed()
    if (event.amount === 5 && attempt === 1) throw new Error("a bug")
    yield* Console.log(`paid ${event.amount} at attempt ${attempt}`)
  })

const PaymentsLive = Payments.toLayer((event, { attempt }) => pay(event, attempt), {
  // When retries and restarts have ended. There is no default.
  onExhausted: FailurePolicy.deadLetter(DeadPayments),
  // A decision for every typed failure of the handler: leave one out and it does not compile.
  onError: FailurePolicy.exhaustive({
    BankOffline: FailurePolicy.retry,
    CardStolen: FailurePolicy.deadLetter(DeadPayments),
    AccountClosed: FailurePolicy.drop
  }),
  onFailure: (failure) => Console.log(`given up: ${failure.policy._tag} after ${failure.attempts} attempt(s)`)
})

const DeadPaymentsLive = DeadPayments.toLayer(
  (event, { headers }) =>
    Console.log(`dead letter: ${event.amount}, because of ${String(headers["X-Dead-Letter-Error"])}`),
  { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) }
)

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  for (const amount of [1, 2, 3, 4, 5]) {
    yield* bus.publish(Payments, { aggregateId: "account-7", payload: new PaymentRequested({ amount }) })
  }
  yield* Effect.sleep("1 second")
})

const BusLive = EventBus.layer.pipe(
  Layer.provide(MemoryTransport.layer()),
  Layer.provide(EventBusConfig.layer({ retryBase: "10 millis" }))
)

await Effect.runPromise(
  program.pipe(
    Effect.provide(Layer.merge(PaymentsLive, DeadPaymentsLive).pipe(Layer.provideMerge(BusLive))),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
