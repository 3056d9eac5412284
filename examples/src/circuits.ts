// A database goes away, and its subscription waits for it: the example of docs/circuits.md.
import { EventBus, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Console, Data, Effect, Layer, Logger, LogLevel, Schedule, Schema, Stream } from "effect"

class Paid extends Schema.TaggedClass<Paid>()("Paid", { amount: Schema.Number }) {}

const Payments = Topic.envelope("payments", Paid)
const DeadPayments = Topic.envelope("payments.dead", Paid)

class DatabaseDown extends Data.TaggedError("DatabaseDown")<{ readonly message: string }> {}
class UnknownAccount extends Data.TaggedError("UnknownAccount") {}

/** A database that is away for the first second. */
class Database extends Effect.Service<Database>()("Database", {
  effect: Effect.gen(function*() {
    let isAway = true
    yield* Effect.forkDaemon(Effect.delay(Effect.sync(() => isAway = false), "1 second"))
    return {
      insert: (account: string, amount: number): Effect.Effect<void, DatabaseDown | UnknownAccount> =>
        isAway
          ? new DatabaseDown({ message: "connection refused" })
          : amount < 0
          ? new UnknownAccount()
          : Console.log(`${account}: ${amount}`)
    }
  })
}) {}

const PaymentsLive = Payments.toLayer(
  (event, { aggregateId }) => Effect.flatMap(Database, (database) => database.insert(aggregateId, event.amount)),
  {
    onExhausted: FailurePolicy.deadLetter(DeadPayments),
    onError: FailurePolicy.exhaustive({
      // Nothing more begins until a message that probes has succeeded.
      DatabaseDown: FailurePolicy.circuit({ name: "database", probe: Schedule.spaced("250 millis") }),
      UnknownAccount: FailurePolicy.deadLetter(DeadPayments)
    })
  }
)

/** What somebody who is on duty wants to know. */
const Watch = Layer.scopedDiscard(
  Effect.flatMap(EventBus.EventBus, ({ circuits }) =>
    Effect.forkScoped(
      Stream.runForEach(
        Stream.filter(circuits.changes, ({ from, state }) => from === "closed" || state === "closed"),
        ({ name, reason, state }) => Console.log(`${name} is ${state} (${reason})`)
      )
    ))
)

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  for (const amount of [1, 2, 3]) {
    for (const aggregateId of ["account-1", "account-2"]) {
      yield* bus.publish(Payments, { aggregateId, payload: new Paid({ amount }) })
    }
  }
  yield* Effect.sleep("2 seconds")
  const subscription = bus.find("payments")
  const stats = yield* Effect.flatMap(subscription, ({ stats }) => stats)
  yield* Console.log(`handled: ${stats.handled}, dead letters: ${stats.deadLettered}`)
})

const BusLive = EventBus.layer.pipe(Layer.provide(MemoryTransport.layer()))
const AppLive = Layer.merge(PaymentsLive, Watch).pipe(Layer.provideMerge(BusLive), Layer.provide(Database.Default))

await Effect.runPromise(
  program.pipe(Effect.provide(AppLive), Logger.withMinimumLogLevel(LogLevel.None))
)
