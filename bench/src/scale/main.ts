/**
 * `npm run scale -- [--partitions 12,100,1000] [--aggregates 1000000] [--seconds 30] [--rate 2000] [--lease 10]`: what partitions and aggregates cost a
 * nats-server and an instance. For each number of partitions: an instance begins, rests, works, shares with a second one, and is killed.
 */
import type { OutgoingMessage, Service } from "@effect-eventbus/core/Transport"
import { NatsTransport } from "@effect-eventbus/nats"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import { connect } from "nats"
import { type ChildProcess, fork } from "node:child_process"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import type { Job, Report } from "./instance.js"
import * as Server from "./Server.js"

const { values } = parseArgs({
  options: {
    partitions: { type: "string", default: "12,100,1000" },
    aggregates: { type: "string", default: "1000000" },
    seconds: { type: "string", default: "30" },
    rate: { type: "string", default: "2000" },
    semantics: { type: "string", default: "at-least-once" },
    /** Of the leases, in seconds. */
    lease: { type: "string", default: "10" }
  }
})
const seconds = Number(values.seconds)
const rate = Number(values.rate)
const lease = Number(values.lease)

const say = (line: string) => Effect.sync(() => process.stderr.write(`${line}\n`))

const untilTrue = (what: string, condition: Effect.Effect<boolean>, millis = 180_000) =>
  Effect.repeat(Effect.delay(condition, "20 millis"), { until: (isTrue) => isTrue }).pipe(
    Effect.timeoutFail({ duration: millis, onTimeout: () => new Error(`${what}: not within ${millis} ms`) })
  )

/** An instance that can be asked, and killed. */
const instance = (job: Job) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href
        return fork(fileURLToPath(new URL("./instance.ts", import.meta.url)), [JSON.stringify(job)], {
          execArgv: ["--import", tsx]
        })
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    (child) => ({ ask: ask(child), kill: Effect.sync(() => child.kill("SIGKILL")) })
  )

let serial = 0

/** While it begins nobody answers, and then to all that was asked. */
const ask = (child: ChildProcess): Effect.Effect<Report> =>
  Effect.async<Report>((resume) => {
    child.setMaxListeners(0)
    const question = serial++
    const onMessage = (report: unknown) => {
      if ((report as Report).question === question) resume(Effect.succeed(report as Report))
    }
    child.on("message", onMessage)
    child.send(question, () => {})
    return Effect.sync(() => child.off("message", onMessage))
  }).pipe(
    Effect.timeoutOption("5 seconds"),
    Effect.flatMap((answer) => answer._tag === "Some" ? Effect.succeed(answer.value) : Effect.suspend(() => ask(child)))
  )

const value = new Uint8Array(200)

const message = (n: number, aggregates: number): OutgoingMessage => ({
  id: undefined,
  aggregateId: `order-${n % aggregates}`,
  key: null,
  value,
  headers: {},
  timestamp: undefined
})

const publish = (service: Service, topic: string, partitions: number, messages: ReadonlyArray<OutgoingMessage>) =>
  Effect.flatMap(
    service.publish({ name: topic, kind: "plain", partitions }, messages, { timeout: Duration.seconds(60) }),
    Effect.forEach((result) => Either.isLeft(result) ? Effect.die(result.left) : Effect.void, { discard: true })
  )

/** So many messages a second, of 10,000 aggregates, until it is interrupted. */
const publishing = (service: Service, topic: string, partitions: number) => {
  const count = Math.ceil(rate / 20)
  let sent = 0
  const some = Effect.suspend(() => {
    const messages = Array.from({ length: count }, () => message(sent++, 10_000))
    return publish(service, topic, partitions, messages)
  })
  return { run: Effect.repeat(some, Schedule.fixed("50 millis")), sent: () => sent }
}

const bucketSize = (servers: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const nc = await connect({ servers: [...servers] })
    const { state } = await (await nc.jetstreamManager()).streams.info("KV_eventbus-leases")
    await nc.close()
    return state.last_seq
  })

const transport = (servers: ReadonlyArray<string>) =>
  NatsTransport.make({ servers, preflight: "off", plainStorage: "file" })

const perSecond = (count: number, millis: number) => count / millis * 1_000

const partitioned = (partitions: number) =>
  Effect.scoped(Effect.gen(function*() {
    yield* say(`${partitions} partitions ...`)
    const server = yield* Server.make
    const empty = yield* server.see
    const semantics = values.semantics === "at-most-once" ? "at-most-once" : "at-least-once"
    const job: Job = { servers: server.servers, topic: "orders", partitions, semantics, lease }
    const first = yield* instance(job)
    const owned = (one: typeof first) => Effect.map(one.ask, (report) => report.owned)
    yield* untilTrue("the first has all", Effect.map(owned(first), (count) => count === partitions))
    yield* Effect.sleep("5 seconds")

    const window = (millis: number) =>
      Effect.gen(function*() {
        const [before, mine, keys] = [yield* server.see, yield* first.ask, yield* bucketSize(server.servers)]
        yield* Effect.sleep(millis)
        const [after, mineAfter, keysAfter] = [yield* server.see, yield* first.ask, yield* bucketSize(server.servers)]
        const time = after.at - before.at
        return {
          requests: perSecond(after.messagesIn - before.messagesIn, time),
          writes: perSecond(keysAfter - keys, time),
          serverCpu: (after.cpu - before.cpu) / time * 100,
          cpu: (mineAfter.cpu - mine.cpu) / time * 100,
          handled: perSecond(mineAfter.handled - mine.handled, time),
          serverMb: after.rssMb,
          mb: mineAfter.rssMb
        }
      })
    const resting = yield* window(seconds * 1_000)
    const service = yield* transport(server.servers)
    const load = publishing(service, job.topic, partitions)
    const publisher = yield* Effect.fork(load.run)
    yield* Effect.sleep("5 seconds")
    const working = yield* window(seconds * 1_000)

    const second = yield* instance(job)
    yield* untilTrue("they share", Effect.map(owned(second), (count) => count === Math.floor(partitions / 2)))
    yield* Effect.sleep("5 seconds")
    yield* second.ask
    const half = (yield* first.ask).owned
    yield* first.kill
    const killedAt = performance.now()
    yield* untilTrue("the other has all", Effect.map(owned(second), (count) => count === partitions))
    const tookOver = performance.now() - killedAt
    yield* Fiber.interrupt(publisher)
    const { stoodAfter } = yield* second.ask
    return {
      partitions,
      "server, empty MiB": empty.rssMb.toFixed(0),
      "server, resting MiB": resting.serverMb.toFixed(0),
      "instance MiB": resting.mb.toFixed(0),
      "resting: requests/s": resting.requests.toFixed(1),
      "server %": resting.serverCpu.toFixed(1),
      "instance %": resting.cpu.toFixed(1),
      "working: messages/s": working.handled.toFixed(0),
      "to the server/s": working.requests.toFixed(0),
      "bucket writes/s": working.writes.toFixed(1),
      "server % ": working.serverCpu.toFixed(0),
      "instance % ": working.cpu.toFixed(0),
      "second start s": (stoodAfter / 1_000).toFixed(1),
      "take-over s": `${(tookOver / 1_000).toFixed(1)} (${half})`
    }
  }))

const aggregates = (count: number) =>
  Effect.scoped(Effect.gen(function*() {
    yield* say(`${count} aggregates ...`)
    const server = yield* Server.make
    const service = yield* transport(server.servers)
    const partitions = 12
    const before = yield* server.see
    const startedAt = performance.now()
    const chunk = 10_000
    for (let n = 0; n < count; n += chunk) {
      yield* publish(
        service,
        "orders",
        partitions,
        Array.from({ length: Math.min(chunk, count - n) }, (_, i) => message(n + i, count))
      )
    }
    const published = performance.now() - startedAt
    const after = yield* server.see
    const back = yield* server.restart
    const restarted = yield* server.see
    const first = yield* instance({
      servers: server.servers,
      topic: "orders",
      partitions,
      semantics: "at-least-once",
      lease
    })
    yield* first.ask
    const readAt = performance.now()
    yield* untilTrue("all is handled", Effect.map(first.ask, ({ handled }) => handled >= count), 600_000)
    const read = performance.now() - readAt
    const { rssMb } = yield* first.ask
    const info = yield* Effect.promise(async () => {
      const nc = await connect({ servers: [...server.servers] })
      const at = performance.now()
      await (await nc.jetstreamManager()).streams.info("orders")
      await nc.close()
      return performance.now() - at
    })
    return {
      aggregates: count,
      "server before MiB": before.rssMb.toFixed(0),
      "with the aggregates MiB": after.rssMb.toFixed(0),
      "published/s": perSecond(count, published).toFixed(0),
      "restart s": (back / 1_000).toFixed(1),
      "after restart MiB": restarted.rssMb.toFixed(0),
      "read/s": perSecond(count, read).toFixed(0),
      "instance MiB": rssMb.toFixed(0),
      "stream info ms": info.toFixed(0)
    }
  }))

const table = (row: Readonly<Record<string, unknown>>): string => {
  const names = Object.keys(row)
  const line = (cells: ReadonlyArray<unknown>) => `| ${cells.join(" | ")} |`
  return [line(names), line(names.map(() => "---")), line(Object.values(row))].join("\n")
}

const numbers = (text: string): ReadonlyArray<number> =>
  text.split(",").map(Number).filter((n) => Number.isSafeInteger(n) && n > 0)

const main = Effect.gen(function*() {
  for (const count of numbers(values.partitions)) {
    const row = yield* partitioned(count)
    yield* Effect.sync(() => process.stdout.write(`${table(row)}\n\n`))
  }
  for (const count of numbers(values.aggregates)) {
    const row = yield* aggregates(count)
    yield* Effect.sync(() => process.stdout.write(`${table(row)}\n\n`))
  }
  // A client whose server was restarted can have a timer left.
  yield* Effect.sync(() => process.exit())
})

NodeRuntime.runMain(main.pipe(Logger.withMinimumLogLevel(LogLevel.Warning)))
