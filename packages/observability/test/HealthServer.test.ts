/** What probes of an orchestrator see, also while a handler keeps the event loop: that needs a process of its own. */
import { EventBus, FailurePolicy, MemoryTransport } from "@effect-eventbus/core"
import { Health, HealthServer } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, TestClock } from "effect"
import { fork } from "node:child_process"
import { type IncomingMessage, request, type ServerResponse } from "node:http"
import { fileURLToPath } from "node:url"
import { eventually, placed, topicOf, values } from "./Fixture.js"

interface Answer {
  readonly status: number | undefined
  readonly body: string
}

const get = (port: number, path: string, method = "GET", timeout = 10_000) =>
  Effect.async<Answer, Error>((resume) => {
    const sent = request({ port, host: "127.0.0.1", path, method, agent: false, timeout }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (chunk: string) => body += chunk).on(
        "end",
        () => resume(Effect.succeed({ status: response.statusCode, body }))
      )
    })
    sent.on("timeout", () => sent.destroy(new Error("timeout")))
    sent.on("error", (error) => resume(Effect.fail(error))).end()
  })

const statusOf = (port: number, path: string) => Effect.map(get(port, path), ({ status }) => status)

it.scoped("requests that can't be answered are said once a minute, with the number of the others, and when it is over", () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
    const [text] = Array.isArray(message) ? message : [message]
    lines.push(`${logLevel.label} ${String(text)} ${JSON.stringify(Object.fromEntries(annotations))}`)
  })
  let isBroken = true
  return Effect.gen(function*() {
    const health = yield* Health.make({ watchdog: false })
    const check = Effect.suspend(() => isBroken ? Effect.die("broken") : health.check)
    const answer = yield* Effect.provideService(HealthServer.handler("ready"), Health.Health, { ...health, check })
    const ask = Effect.async<number>((resume) => {
      let code = 0
      const response = {
        writeHead: (status: number) => {
          code = status
          return response
        },
        end: () => resume(Effect.succeed(code))
      }
      answer({ method: "GET" } as IncomingMessage, response as unknown as ServerResponse)
    })
    for (let i = 0; i < 10; i++) expect(yield* ask).toBe(500)
    expect(lines).toEqual(["ERROR The health can't be told {}"])
    yield* TestClock.adjust("1 minute")
    for (let i = 0; i < 3; i++) yield* ask
    expect(lines.slice(1)).toEqual([`ERROR The health can't be told {"left":9}`])
    isBroken = false
    for (let i = 0; i < 3; i++) expect(yield* ask).toBe(503)
    expect(lines.slice(2)).toEqual([`WARN The health can be told again {"left":2}`])
    // It comes and goes.
    for (let i = 0; i < 10; i++) {
      isBroken = !isBroken
      yield* ask
    }
    expect(lines.length).toBe(3)
    yield* TestClock.adjust("1 minute")
    yield* ask
    expect(lines.slice(3)).toEqual([`WARN The health can be told again {"left":5}`])
  }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
})

it.live("/ready and /live answer 200 or 503 with what is found, beside the metrics", () => {
  const orders = topicOf()
  const health = Health.layer({ watchdog: false, interval: "50 millis", stalledAfter: "100 millis" })
  const layer = HealthServer.layer({ port: 0, metrics: true }).pipe(
    Layer.merge(EventBus.layer.pipe(Layer.provide(Layer.orDie(MemoryTransport.layer())))),
    Layer.provideMerge(health)
  )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { port } = yield* HealthServer.HealthServer
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop })
    expect(yield* get(port, "/ready")).toMatchObject({ status: 200 })
    yield* bus.publish(orders, placed("order-1", 1))
    // The partition stands still as well, and either of them may be found first.
    const ofMessage = (body: string) => {
      const report = JSON.parse(body)
      const findings = report.findings.filter((one: { readonly aggregateId?: string }) => one.aggregateId !== undefined)
      return { ...report, findings }
    }
    yield* eventually(
      "it stalls",
      () =>
        Effect.orDie(
          Effect.map(get(port, "/ready"), ({ body, status }) => status === 503 && ofMessage(body).findings.length === 1)
        )
    )
    const { body } = yield* get(port, "/ready?verbose")
    expect(ofMessage(body)).toMatchObject({
      status: "failing",
      live: true,
      ready: false,
      findings: [{
        reason: "Stalled",
        level: "critical",
        topic: orders.name,
        group: "group",
        partition: 0,
        offset: 0,
        aggregateId: "order-1",
        remedy: expect.any(String)
      }]
    })
    expect((yield* get(port, "/live")).status).toBe(200)
    expect(yield* get(port, "/ready", "HEAD")).toEqual({ status: 503, body: "" })
    expect((yield* get(port, "/ready", "POST")).status).toBe(405)
    expect((yield* get(port, "/other")).status).toBe(404)
    expect((yield* get(port, "/metrics")).status).toBe(200)
    yield* Deferred.succeed(gate, undefined)
    yield* eventually(
      "it goes on",
      () => Effect.orDie(Effect.map(statusOf(port, "/ready"), (status) => status === 200))
    )
    const taken = yield* Effect.flip(Effect.scoped(HealthServer.serve({ port })))
    expect(taken.message).toMatch(/health can't listen on port \d+: .*EADDRINUSE/)
    const brief = yield* HealthServer.serve({ port: 0, details: false })
    expect((yield* get(brief.port, "/ready")).body).toBe("{\"status\":\"ok\",\"live\":true,\"ready\":true}\n")
  }).pipe(Effect.scoped, Effect.provide(layer), Effect.provide(Logger.remove(Logger.defaultLogger)))
})

const child = fileURLToPath(new URL("child/blocked.ts", import.meta.url))

const started = Effect.acquireRelease(
  Effect.async<
    { readonly port: number; readonly send: (millis: number) => void; readonly errors: () => string },
    Error
  >(
    (resume) => {
      const process = fork(child, [], { execArgv: ["--import", "tsx"], stdio: ["ignore", "ignore", "pipe", "ipc"] })
      let errors = ""
      process.stderr!.setEncoding("utf8").on("data", (chunk: string) => errors += chunk)
      process.once(
        "message",
        ({ port }: { readonly port: number }) =>
          resume(Effect.succeed({ port, send: (millis) => void process.send(millis), errors: () => errors, process }))
      )
      process.once("exit", (code) => resume(Effect.fail(new Error(`it ended with ${code}: ${errors}`))))
    }
  ),
  (child) =>
    Effect.sync(() =>
      (child as unknown as { readonly process: { kill: (signal: string) => void } }).process.kill("SIGKILL")
    )
)

it.live(
  "a handler that blocks the event loop is noticed from outside: the log says so meanwhile, and readiness after it",
  () =>
    Effect.gen(function*() {
      const { errors, port, send } = yield* started
      yield* eventually("it is ready", () =>
        Effect.orDie(Effect.map(statusOf(port, "/ready"), (status) => status === 200)))
      send(6_000)
      yield* eventually("it is said while it lasts", () =>
        errors().includes("The event loop stands still, for"))
      expect((yield* Effect.flip(get(port, "/live", "GET", 500))).message).toBe("timeout")
      const line = errors().split("\n").find((line) => line.includes("stands still"))!
      expect(line).toMatch(
        /^timestamp=\S+ level=ERROR fiber=#watchdog message=".*" subscription="works\/group" partition=\d offset=0 aggregateId="work-1"$/
      )
      // The answer waits until the loop goes on.
      const { body, status } = yield* get(port, "/ready")
      expect(status).toBe(503)
      const report = JSON.parse(body)
      expect(report).toMatchObject({
        live: true,
        findings: [{ reason: "StuckActor", topic: "works", group: "group", aggregateId: "work-1" }]
      })
      expect(report.findings[0].seconds).toBeGreaterThanOrEqual(1)
      expect(report.eventLoopDelay).toBeGreaterThan(1)
      yield* eventually("it is over", () =>
        Effect.orDie(Effect.map(statusOf(port, "/ready"), (status) =>
          status === 200)))
      yield* eventually("that is said", () =>
        errors().includes("level=WARN fiber=#watchdog message=\"The event loop goes on."))
      const { body: text } = yield* get(port, "/metrics")
      const [delay] = values(text, "event_loop_delay_seconds").values()
      expect(delay).toBeGreaterThan(1)
      // One that is busy in short turns is no trouble.
      const before = errors().length
      for (let i = 0; i < 20; i++) {
        send(80)
      }
      expect((yield* get(port, "/ready")).status).toBe(200)
      expect(errors().slice(before)).toBe("")
    }).pipe(Effect.scoped),
  60_000
)
