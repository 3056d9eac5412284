/**
 * What many parked letters cost: parking them, the start of the next owner, its memory, and how fast they are released.
 * `npm run bench:parking -- --transport kafka --letters 1000000 --aggregates 100000`
 */
import * as Kafka from "@effect-eventbus/brokers/Kafka"
import * as Nats from "@effect-eventbus/brokers/Nats"
import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  type Subscription,
  Topic,
  type Transport
} from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

const { values } = parseArgs({
  options: {
    transport: { type: "string", default: "kafka" },
    letters: { type: "string", default: "1000000" },
    aggregates: { type: "string", default: "100000" },
    partitions: { type: "string", default: "12" },
    /** Of each payload. */
    bytes: { type: "string", default: "200" },
    /** How long letters are released at most. */
    seconds: { type: "string", default: "60" },
    /** Of a process of its own: what it does, on these brokers. */
    role: { type: "string" },
    servers: { type: "string" }
  }
})
const letters = Number(values.letters)
const aggregates = Number(values.aggregates)
const strangers = 1_000

class Filled extends Schema.TaggedClass<Filled>()("Filled", { text: Schema.String }) {}
const orders = Topic.envelope("orders", Filled, { partitions: Number(values.partitions) })

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void
const memory = (): string => {
  collect()
  const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
  const mib = (bytes: number) => Math.round(bytes / 1_048_576)
  return `${mib(heapUsed + arrayBuffers)} MiB heap, ${mib(rss)} MiB RSS, ${
    Math.round(process.resourceUsage().maxRSS / 1_024)
  } MiB RSS at most`
}
const since = (from: number): number => (performance.now() - from) / 1_000
const print = (line: string): Effect.Effect<void> => Effect.sync(() => void process.stdout.write(`${line}\n`))
const rate = (count: number, seconds: number): string => `${Math.round(count / seconds)}/s`

const transport = (servers: ReadonlyArray<string>): Layer.Layer<Transport.Transport, unknown> =>
  values.transport === "kafka"
    ? KafkaTransport.layer({ brokers: servers })
    : NatsTransport.layer({ servers, preflight: "off" })

const bus = (servers: ReadonlyArray<string>) =>
  EventBus.layer.pipe(
    Layer.provide(transport(servers)),
    Layer.provide(EventBusConfig.layer({ group: "owners" }))
  )

const until = (condition: Effect.Effect<boolean>) =>
  Effect.repeat(Effect.delay(condition, "20 millis"), { until: (isTrue) => isTrue })

/** A subscription of which the patients fail, or nobody. */
const subscribed = (fails: boolean, handled: (aggregate: string) => void) =>
  Effect.flatMap(EventBus.EventBus, (bus) =>
    bus.subscribe(
      orders,
      (_, { aggregateId }) =>
        Effect.suspend(() => {
          if (fails && !aggregateId.startsWith("stranger")) return Effect.fail("refused")
          handled(aggregateId)
          return Effect.void
        }),
      {
        retry: Schedule.recurs(0),
        guard: "off",
        onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop })
      }
    ))

const publish = (count: number, nameOf: (n: number) => string) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const payload = new Filled({ text: "x".repeat(Number(values.bytes)) })
    const batch = 1_000
    for (let from = 0; from < count; from += batch) {
      const messages = Array.from({ length: Math.min(batch, count - from) }, (_, i) => ({
        aggregateId: nameOf(from + i),
        payload
      }))
      yield* bus.publishAll(orders, messages)
    }
  })

/** Publishes what fails, and waits until all of it is in letters. */
const park = Effect.gen(function*() {
  const subscription = yield* subscribed(true, () => {})
  const from = performance.now()
  yield* publish(letters, (n) => `order-${n % aggregates}`)
  yield* print(`published: ${letters} events of ${aggregates} aggregates in ${since(from).toFixed(1)} s`)
  yield* until(Effect.map(subscription.stats, ({ parked }) => parked >= letters))
  yield* print(`parked: in ${since(from).toFixed(1)} s with publishing, ${rate(letters, since(from))}; ${memory()}`)
  yield* publish(strangers, (n) => `stranger-${n}`)
  const { handled } = yield* subscription.stats
  yield* print(`closes after ${handled} strangers`)
})

const own = (begun: number) =>
  Effect.gen(function*() {
    const before = memory()
    let first: number | undefined
    const seen = new Set<string>()
    const subscription = yield* subscribed(false, (aggregate) => {
      if (!aggregate.startsWith("stranger")) return
      first ??= since(begun)
      seen.add(aggregate)
    })
    const from = performance.now()
    const subscribedAt = since(begun)
    yield* publish(strangers, (n) => `stranger-${n}`)
    yield* until(Effect.sync(() => seen.size === strangers))
    yield* print(
      `owner: subscribed after ${subscribedAt.toFixed(1)} s, first message after ${
        first!.toFixed(1)
      } s, messages of all partitions after ${since(begun).toFixed(1)} s; before ${before}; now ${memory()}`
    )
    yield* released(subscription)
    yield* print(`at the end: ${memory()}; ${since(from).toFixed(1)} s`)
  })

const released = ({ control, stats }: Subscription.Subscription<unknown>) =>
  Effect.gen(function*() {
    const from = performance.now()
    const report = yield* control.release("all", { who: "bench", why: "measured" })
    yield* print(
      `release: ${report.letters} letters of ${report.aggregates} aggregates, asked in ${since(from).toFixed(2)} s`
    )
    const atMost = Number(values.seconds)
    let said = 0
    yield* until(Effect.gen(function*() {
      const now = since(from)
      const { released } = yield* stats
      if (now > said + 10) {
        said = now
        yield* print(`  ${released} after ${now.toFixed(0)} s`)
      }
      return released >= report.letters || now > atMost
    }))
    const took = since(from)
    const count = (yield* stats).released
    yield* print(`released: ${count} of ${report.letters} in ${took.toFixed(1)} s, ${rate(count, took)}`)
  })

/** In a process of its own, whose memory nobody else has used. */
const inProcess = (servers: ReadonlyArray<string>, role: string) =>
  Effect.async<void, Error>((resume) => {
    const args = [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)]
    const child = spawn(process.execPath, [...args, "--role", role, "--servers", servers.join(",")], {
      stdio: "inherit"
    })
    child.on("error", (error) => resume(Effect.fail(error)))
    child.on("exit", (code) => resume(code === 0 ? Effect.void : Effect.fail(new Error(`${role} ended with ${code}`))))
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

const whole = Effect.scoped(Effect.gen(function*() {
  const servers = values.transport === "kafka"
    ? (yield* Kafka.make({ own: true, jvm: ["-XX:TieredStopAtLevel=4"] })).bootstrap
    : (yield* Nats.make({ own: true })).servers
  yield* print(`${values.transport}: ${values.letters} letters of ${values.aggregates} aggregates`)
  yield* inProcess(servers, "park")
  yield* inProcess(servers, "own")
}))

const role = (name: string, servers: ReadonlyArray<string>) => {
  const begun = performance.now()
  return Effect.scoped(name === "park" ? park : own(begun)).pipe(
    Effect.provide(bus(servers)),
    Logger.withMinimumLogLevel(LogLevel.Fatal)
  )
}

await Effect.runPromise(
  (values.role === undefined ? whole : role(values.role, values.servers!.split(","))) as Effect.Effect<void, unknown>
)
if (values.role !== undefined) process.exit(0)
