/**
 * `once.ts kafka 3.9.1`: brings up one broker of a version, fetched the first time, says which it is, and ends. Whether a version is to
 * be had, and runs here, is known then.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Kafka from "./Kafka.js"
import * as Nats from "./Nats.js"
import * as NatsPackage from "./NatsPackage.js"
import * as NatsProbe from "./NatsProbe.js"

const [broker, version = ""] = process.argv.slice(2)

const started = broker === "kafka"
  ? Effect.as(Kafka.make({ own: true, version }), version)
  : Effect.gen(function*() {
    const { servers } = yield* Nats.make({ own: true, version: yield* NatsPackage.versionOf(version) })
    const info = yield* NatsProbe.info(Number(servers[0]!.split(":")[1]))
    return info.version
  })

const program = Effect.matchEffect(Effect.scoped(started), {
  onFailure: (error) =>
    Effect.sync(() => {
      process.stderr.write(`${error.message}\n`)
      process.exitCode = 1
    }),
  onSuccess: (found) => Effect.sync(() => process.stdout.write(`${found}\n`))
})

Effect.runFork(program)
