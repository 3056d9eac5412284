/** Makes so many subscriptions, each to a topic of its own, lets them be idle, and prints what share of a core that takes. */
import { Effect, Logger, LogLevel } from "effect"
import { NatsTransport } from "../../src/index.js"
import { request, TestConsumer } from "../consumer.js"

const [, , server = "", count = "100", seconds = "20"] = process.argv

const program = Effect.gen(function*() {
  const service = yield* NatsTransport.make({ servers: [server] })
  yield* Effect.forEach(
    Array.from({ length: Number(count) }, (_, i) => ({ name: `idle.${process.pid}.${i}`, kind: "envelope" as const })),
    (topic) => service.subscribe(request(topic), new TestConsumer()),
    { concurrency: 8 }
  )
  // What is compiled at the beginning does not count.
  yield* Effect.sleep("5 seconds")
  const before = process.cpuUsage()
  yield* Effect.sleep(`${Number(seconds)} seconds`)
  const { system, user } = process.cpuUsage(before)
  console.log(((system + user) / 1e4 / Number(seconds)).toFixed(2))
})

Effect.runPromise(Effect.scoped(program).pipe(Logger.withMinimumLogLevel(LogLevel.None))).then(() => process.exit(0))
