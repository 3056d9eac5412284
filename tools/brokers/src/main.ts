/**
 * `npm run brokers`: Kafka and NATS until Ctrl-C.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Brokers from "./Brokers.js"

const say = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

const program = Effect.scoped(Effect.gen(function*() {
  yield* Effect.sync(() =>
    process.stderr.write("Bringing up Kafka and NATS (the first time takes a minute or two) ...\n")
  )
  const { kafka, nats } = yield* Brokers.make(["kafka", "nats"])
  yield* say(`Kafka ${kafka.join(", ")}`)
  yield* say(`NATS  ${nats.join(", ")}`)
  yield* say(`export TEST_KAFKA_BROKERS=${kafka.join(",")}`)
  yield* say(`export TEST_NATS_SERVERS=${nats.join(",")}`)
  yield* say("Ctrl-C ends them.")
  return yield* Effect.never
}))

const fiber = Effect.runFork(program)
const stop = () => fiber.unsafeInterruptAsFork(fiber.id())
process.on("SIGINT", stop)
process.on("SIGTERM", stop)
fiber.addObserver((exit) => {
  if (exit._tag === "Success" || Cause.isInterruptedOnly(exit.cause)) return
  process.stderr.write(`${Cause.prettyErrors(exit.cause).map((error) => error.message).join("\n")}\n`)
  process.exitCode = 1
})
