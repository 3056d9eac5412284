/** What a program of a test is given by its environment, and how it talks to the test. */
import type { Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { Effect, Layer } from "effect"

const given = (name: string): string => process.env[`GIVEN_${name}`] ?? ""

export const topic = given("TOPIC")
export const name = given("TRANSPORT")
export const next = given("NEXT")
export const collector = given("COLLECTOR")

export const transport = (name: string): Layer.Layer<Transport.Transport> =>
  Layer.orDie<Transport.Transport, unknown, never>(
    name === "kafka"
      ? KafkaTransport.layer({ brokers: given("KAFKA").split(",") })
      : NatsTransport.layer({ servers: given("NATS").split(","), preflight: "off" })
  )

/** The test reads it as a line of JSON. */
export const say = (what: object): Effect.Effect<void> =>
  Effect.sync(() => process.stdout.write(`${JSON.stringify(what)}\n`))

/** The test ends the program by closing its standard input, as does the test's own death. */
export const isOver: Effect.Effect<void> = Effect.async((resume) => {
  process.stdin.on("end", () => resume(Effect.void)).on("close", () => resume(Effect.void)).resume()
})

export const run = (program: Effect.Effect<unknown, unknown>): void => {
  void Effect.runPromise(program).then(() => process.exit(0), (error: unknown) => {
    process.stderr.write(`${String(error)}\n`)
    process.exit(1)
  })
}
