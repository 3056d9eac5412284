import * as Servers from "@effect-eventbus/brokers/Nats"
import type { OutgoingMessage, Service, TopicSpec } from "@effect-eventbus/core/Transport"
import { Cause, Duration, Effect, Either, Exit, HashMap, Layer, Logger, LogLevel, Scope } from "effect"
import { connect, type ConnectionOptions, type NatsConnection } from "nats"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { type NatsConfig, NatsTransport } from "../src/index.js"
import type { TestConsumer } from "./consumer.js"

export * from "./consumer.js"

/** The server of today at every commit, the oldest one that is supported in the long run. */
export const versions: ReadonlyArray<"2.15" | "2.9"> = process.env["TEST_LONG"] === "1" ? ["2.9"] : ["2.15"]

export const server = (version: "2.15" | "2.9" = "2.15", config?: string) =>
  Servers.make({ version, own: true, config })

export const transport = (servers: ReadonlyArray<string>, options: NatsConfig.Options = {}) =>
  NatsTransport.make({ servers, reconnectWait: "50 millis", ...options })

/** Runs on real time, and shows warnings only when they are asked for. */
export const run = <A, E>(program: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(
    Effect.scoped(program).pipe(
      Effect.provide(process.env["LOGS"] === undefined ? Logger.minimumLogLevel(LogLevel.None) : Layer.empty)
    )
  )

/** Runs on real time, and keeps the lines of the log, with what they are annotated with. */
export const runRemembering = <A, E>(
  program: (lines: ReadonlyArray<string>) => Effect.Effect<A, E, Scope.Scope>
): Promise<A> => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ annotations, cause, message }) => {
    const notes = Array.from(HashMap.toEntries(annotations), ([key, value]) => `${key}=${String(value)}`)
    lines.push(`${String(message)} ${notes.join(" ")} ${Cause.isEmpty(cause) ? "" : Cause.pretty(cause)}`)
    if (process.env["LOGS"] !== undefined) console.log(lines.at(-1))
  })
  return Effect.runPromise(
    Effect.scoped(program(lines)).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  )
}

/** The server as somebody else sees it. */
export const client = (
  servers: ReadonlyArray<string>,
  options: ConnectionOptions = {}
): Effect.Effect<NatsConnection, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() =>
      connect({ servers: [...servers], maxReconnectAttempts: -1, reconnectTimeWait: 50, ...options })
    ),
    (nc) => Effect.promise(() => nc.close())
  )

let serial = 0
/** A topic that no other test uses. */
export const topic = (kind: "envelope" | "plain" = "envelope", name = "orders") => ({
  name: `test.${name}.${process.pid}.${serial++}`,
  kind
})

export const message = (n: number, aggregateId: string | undefined = `a-${n % 20}`): OutgoingMessage => ({
  id: `event-${n}`,
  aggregateId,
  key: null,
  value: new TextEncoder().encode(String(n)),
  headers: {},
  timestamp: undefined
})

export const messages = (from: number, to: number, aggregates = 20): ReadonlyArray<OutgoingMessage> =>
  Array.from({ length: to - from }, (_, i) => message(from + i, `a-${(from + i) % aggregates}`))

/** The value with blanks behind it. */
export const filled = (value: Uint8Array, length: number): Uint8Array => {
  const bytes = new Uint8Array(length).fill(32)
  bytes.set(value)
  return bytes
}

const timeout = Duration.seconds(10)

/** Publishes, and fails when one of the messages was not written. */
export const publish = (
  service: Service,
  topic: TopicSpec,
  messages: ReadonlyArray<OutgoingMessage>
) =>
  Effect.flatMap(
    service.publish(topic, messages, { timeout }),
    (results) =>
      Effect.forEach(results, (result) =>
        Either.isRight(result) ? Effect.succeed(result.right) : Effect.fail(result.left))
  )

/** Polls until the condition holds. */
export const waitUntil = (what: string, condition: () => boolean | Promise<boolean>, millis = 40_000) =>
  Effect.gen(function*() {
    const deadline = performance.now() + millis
    while (!(yield* Effect.promise(async () => condition()))) {
      if (performance.now() > deadline) return yield* Effect.die(new Error(`${what}: not within ${millis} ms`))
      yield* Effect.sleep(10)
    }
  })

/** A scope that the test closes itself. */
export const scoped = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const value = yield* Scope.extend(effect, scope)
    return { value, close: Scope.close(scope, Exit.void) }
  })

/** What the server knows of a consumer. */
export const consumerInfo = (nc: NatsConnection, stream: string, name: string) =>
  Effect.promise(async () => (await nc.jetstreamManager()).consumers.info(stream, name))

export const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, i) => from + i)

export const ascending = (numbers: ReadonlyArray<number>): ReadonlyArray<number> => [...numbers].sort((a, b) => a - b)

/** Compares without the runner's diff, which takes minutes for thousands of numbers. */
export const assertNumbers = (actual: ReadonlyArray<number>, expected: ReadonlyArray<number>): void => {
  const at = actual.findIndex((n, i) => n !== expected[i])
  if (at === -1 && actual.length === expected.length) return
  const index = at === -1 ? actual.length : at
  throw new Error(
    `${actual.length} numbers instead of ${expected.length}; from ${index} on ${
      actual.slice(index, index + 10)
    } instead of ${expected.slice(index, index + 10)}`
  )
}

export const assertNoViolations = (...consumers: ReadonlyArray<TestConsumer>): void => {
  const violations = consumers.flatMap((consumer) => consumer.violations)
  if (violations.length > 0) throw new Error(`${violations.length} violations: ${violations.slice(0, 10).join("; ")}`)
}

/** A folder that goes with the scope. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "eventbus-nats-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

export interface Child {
  readonly lines: () => ReadonlyArray<string>
  readonly errors: () => string
  readonly kill: () => void
  readonly signal: (name: NodeJS.Signals) => void
  /** The exit code; undefined while it runs. */
  readonly code: () => number | null | undefined
}

/** A program of `test/child` in a process of its own. */
export const child = (file: string, ...args: ReadonlyArray<string>): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href
      const path = fileURLToPath(new URL(`./child/${file}`, import.meta.url))
      const process = spawn("node", ["--import", tsx, path, ...args], { stdio: ["ignore", "pipe", "pipe"] })
      let [out, errors] = ["", ""]
      let code: number | null | undefined
      process.stdout.on("data", (chunk) => out += chunk)
      process.stderr.on("data", (chunk) => errors += chunk)
      process.on("exit", (exit) => code = exit)
      return {
        lines: () => out.split("\n").slice(0, -1),
        errors: () => errors,
        kill: () => void process.kill("SIGKILL"),
        signal: (name) => void process.kill(name),
        code: () => code
      }
    }),
    (child) => Effect.sync(child.kill)
  )
