import { runBinary } from "./lib/run.mjs"

// `--long`: the long run, see vitest.workspace.ts.
const args = process.argv.slice(2)
if (args[0] === "--long") {
  args.shift()
  process.env.TEST_LONG = "1"
}

// `--models`: the models with 10,000 random schedules each, which take a quarter of an hour.
if (args[0] === "--models") {
  args.shift()
  process.env.TEST_MODEL_RUNS ??= "10000"
  process.env.TEST_FLIGHT_RUNS ??= "10000"
  args.push("packages/core/test/FlightModel.test.ts", "packages/testing/test/Model.test.ts")
}

// `--driver NAME`: of Kafka's tests those that tell its drivers apart, with this one; `--all` for all.
if (args[0] === "--driver") {
  process.env.TEST_KAFKA_DRIVER = args[1]
  const isAll = args[2] === "--all"
  args.splice(0, isAll ? 3 : 2, "--project=kafka")
  const files = [
    "Cluster",
    "Conformance",
    "Deadlines",
    "Failures",
    "Publish",
    "Rebalance",
    "Requests",
    "Secure.long",
    "Security",
    "Truncated.long"
  ]
  if (!isAll) args.push(...files.map((name) => `packages/kafka/test/${name}.test.ts`))
}

// `--nats3`: what of NATS's tests is about the client, on the successors of the package `nats`.
if (args[0] === "--nats3") {
  args[0] = "--project=nats"
  process.env.TEST_NATS_SUCCESSOR = "1"
  const files = [
    "Client",
    "Conformance",
    "Connect",
    "Connection",
    "Errors",
    "Given",
    "Headers",
    "Publish",
    "Read",
    "Store",
    "StoreFaults",
    "Wire"
  ]
  args.push(...files.map((name) => `packages/nats/test/${name}.test.ts`))
}

// Vitest leaves one core free. Most of these tests wait for brokers and timers, so on two cores three files go at a time; those of the long run
// are busier.
const workers = process.env.TEST_LONG === "1" ? 2 : 3
runBinary("vitest", ["run", `--maxWorkers=${workers}`, "--minWorkers=1", ...args])
