/**
 * How long an owner takes to read a store on Kafka, and what that takes of memory: the letters of many aggregates, as parking keeps them.
 * `npm run bench:store -- --letters 1000000 --aggregates 100000`
 */
import * as Kafka from "@effect-eventbus/brokers/Kafka"
import type { Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

const { values } = parseArgs({
  options: {
    letters: { type: "string", default: "1000000" },
    aggregates: { type: "string", default: "100000" },
    partitions: { type: "string", default: "12" },
    bytes: { type: "string", default: "500" },
    /** Only reads, from these brokers: the process of its own that is measured. */
    read: { type: "string" },
    /** How many partitions are read at once. */
    atOnce: { type: "string", default: "1" },
    /** Whether an index of the letters is kept: which revisions each aggregate has. */
    index: { type: "boolean", default: false }
  }
})
const letters = Number(values.letters)
const aggregates = Number(values.aggregates)
const partitions = Number(values.partitions)

const CHUNK = 500
const timeout = Duration.minutes(1)
const request = {
  topic: { name: "orders", kind: "envelope", partitions },
  group: "owners",
  name: "parked"
} as const

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void
const heapMb = () => {
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / 1_048_576
}
const seconds = (from: number): string => ((performance.now() - from) / 1_000).toFixed(1)
const print = (line: string): Effect.Effect<void> => Effect.sync(() => void process.stdout.write(`${line}\n`))

const keyOf = (letter: number): string =>
  `order-${letter % aggregates}/${String(Math.floor(letter / aggregates)).padStart(9, "0")}`

/** Each partition has its own aggregates. */
const write = (store: Transport.Store, partition: number) =>
  Effect.gen(function*() {
    const value = new Uint8Array(Number(values.bytes)).fill(120)
    let chunk: Array<Transport.StoreChange> = []
    const flush = Effect.suspend(() => {
      const changes = chunk
      chunk = []
      return Effect.flatMap(store.write(partition, changes, { timeout }), Either.all)
    })
    for (let letter = 0; letter < letters; letter++) {
      if ((letter % aggregates) % partitions !== partition) continue
      chunk.push({ key: keyOf(letter), value })
      if (chunk.length === CHUNK) yield* flush
    }
    yield* flush
  })

const all = Array.from({ length: partitions }, (_, partition) => partition)

const writing = (brokers: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const transport = yield* KafkaTransport.make({ brokers })
    const store = yield* transport.store!(request)
    const from = performance.now()
    yield* Effect.forEach(all, (partition) => write(store, partition), { concurrency: "unbounded", discard: true })
    yield* print(
      `written: ${letters} letters of ${aggregates} aggregates, ${values.bytes} bytes each, in ${seconds(from)} s`
    )
  }))

const reading = (brokers: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const transport = yield* KafkaTransport.make({ brokers })
    const store = yield* transport.store!(request)
    const before = heapMb()
    const from = performance.now()
    let count = 0
    const index = new Map<string, Array<number>>()
    yield* Effect.forEach(all, (partition) =>
      Stream.runForEachChunk(store.read(partition), (entries) =>
        Effect.sync(() => {
          for (const { key, revision } of entries) {
            count++
            if (!values.index) {
              continue
            }
            const aggregate = key.slice(0, key.indexOf("/"))
            const known = index.get(aggregate)
            if (known === undefined) {
              index.set(aggregate, [revision])
            } else known.push(revision)
          }
        })), { concurrency: Number(values.atOnce), discard: true })
    const took = performance.now() - from
    const kept = heapMb() - before
    const peak = process.resourceUsage().maxRSS / 1_024
    yield* print(
      `${values.atOnce} partitions at once${values.index ? ", with an index" : ""}: ${count} letters in ` +
        `${(took / 1_000).toFixed(1)} s, ${Math.round(count / took * 1_000)}/s; ` +
        `${kept.toFixed(1)} MiB kept (${index.size} aggregates), ${Math.round(peak)} MiB RSS at most`
    )
  }))

/** In a process of its own, whose memory nobody else has used. */
const measured = (bootstrap: ReadonlyArray<string>, more: ReadonlyArray<string>) =>
  Effect.async<void, Error>((resume) => {
    const child = spawn(
      process.execPath,
      [
        ...process.execArgv,
        fileURLToPath(import.meta.url),
        ...process.argv.slice(2),
        "--read",
        bootstrap.join(","),
        ...more
      ],
      { stdio: "inherit" }
    )
    child.on("error", (error) => resume(Effect.fail(error)))
    child.on("exit", (code) => resume(code === 0 ? Effect.void : Effect.fail(new Error(`reading ended with ${code}`))))
    return Effect.sync(() => void child.kill())
  })

const whole = Effect.scoped(Effect.gen(function*() {
  const { bootstrap } = yield* Kafka.make({ own: true, jvm: ["-XX:TieredStopAtLevel=4"] })
  yield* writing(bootstrap)
  for (const more of [[], ["--index"], ["--atOnce", "4"]]) yield* measured(bootstrap, more)
}))

await Effect.runPromise(values.read === undefined ? whole : reading(values.read.split(",")))
