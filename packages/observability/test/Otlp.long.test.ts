/** Three processes send their spans by OTLP over HTTP to a collector, which sees one trace through Kafka and NATS. */
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { inject } from "vitest"
import { eventually } from "./Fixture.js"
import * as Programs from "./Programs.js"

/** A span as OTLP has it in JSON. */
interface Span {
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: ReadonlyArray<Attribute>
  readonly events: ReadonlyArray<{ readonly name: string; readonly attributes: ReadonlyArray<Attribute> }>
}
interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}
interface Body {
  readonly resourceSpans: ReadonlyArray<{
    readonly resource: { readonly attributes: ReadonlyArray<Attribute> }
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Omit<Span, "service">> }>
  }>
}

const value = (attributes: ReadonlyArray<Attribute>, key: string): unknown => {
  const found = attributes.find((one) => one.key === key)
  return found === undefined ? undefined : Object.values(found.value)[0]
}

/** Takes what the protocol says, and refuses everything else. */
const collector = Effect.acquireRelease(
  Effect.async<{ readonly server: Server; readonly spans: Array<Span>; readonly refused: Array<string> }>((resume) => {
    const spans: Array<Span> = []
    const refused: Array<string> = []
    const server = createServer((request, response) => {
      let text = ""
      request.setEncoding("utf8").on("data", (chunk) => text += chunk).on("end", () => {
        const { headers, method, url } = request
        if (method === "POST" && headers["content-type"] === "application/json" && url === "/v1/traces") {
          for (const { resource, scopeSpans } of (JSON.parse(text) as Body).resourceSpans) {
            const service = String(value(resource.attributes, "service.name"))
            for (const one of scopeSpans) spans.push(...one.spans.map((span) => ({ ...span, service })))
          }
        } else if (!(url === "/v1/metrics" || url === "/v1/logs")) refused.push(`${method} ${url}`)
        response.writeHead(200, { "content-type": "application/json" }).end("{}")
      })
    }).listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, spans, refused })))
  }),
  ({ server }) =>
    Effect.async<void>((resume) => {
      server.close(() => resume(Effect.void))
      server.closeAllConnections()
    })
)

const millis = ({ endTimeUnixNano, startTimeUnixNano }: Span): number =>
  Number(BigInt(endTimeUnixNano) - BigInt(startTimeUnixNano)) / 1e6

it.live(
  "one trace goes from a publisher through Kafka and NATS to handlers in other processes, with waits and failed attempts",
  () =>
    Effect.gen(function*() {
      const { refused, server, spans } = yield* collector
      const topic = `test.otlp.${process.pid}`
      const given = {
        topic,
        kafka: inject("kafkaBrokers"),
        nats: inject("natsServers"),
        collector: `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      }
      const last = yield* Programs.start("courier", { ...given, transport: "nats" })
      const middle = yield* Programs.start("courier", { ...given, transport: "kafka", next: "nats" })
      yield* Effect.all([last.said, middle.said])
      const first = yield* Programs.start("courier", { ...given, next: "kafka" })
      yield* Effect.timeout(Effect.all([first.ended, middle.ended, last.ended]), "60 seconds")

      yield* eventually("all spans have arrived", () => spans.length === 13)
      expect(refused).toEqual([])
      expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1)
      const of = (service: string, name: string) =>
        spans.filter((one) => one.service === service && one.name === name)
          .sort((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)))
      const [root] = of("publisher", "place an order")
      const parent = (one: Span | undefined) => spans.find(({ spanId }) => spanId === one?.parentSpanId)
      let publishers = of("publisher", `publish ${topic}`)
      expect(publishers.map(parent)).toEqual([root, root])
      for (const transport of ["kafka", "nats"]) {
        const service = `reads ${transport}`
        const received = of(service, `receive ${topic}`)
        const processed = of(service, `process ${topic}`)
        expect([received.length, processed.length]).toEqual([2, 2])
        expect(processed.map(parent).map(parent)).toEqual(publishers)
        for (const one of processed) {
          expect(value(one.attributes, "messaging.system")).toBe(transport)
          expect(value(one.attributes, "eventbus.outcome")).toBe("handled")
          const events = one.events.filter(({ name }) => name === "messaging.process.exception")
          expect(events.map(({ attributes }) => value(attributes, "exception.message"))).toEqual([
            "attempt 1",
            "attempt 2"
          ])
          // The wait in the mailbox: a span, and an attribute in seconds.
          const wait = value(one.attributes, "eventbus.mailbox.wait") as number
          expect(millis(parent(one)!)).toBeCloseTo(wait * 1000, 0)
        }
        // The second message was behind the first in the mailbox, for as long as the rest of its attempts took.
        const [a, b] = processed
        expect(BigInt(b!.startTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(a!.endTimeUnixNano))
        publishers = of(service, `publish ${topic}`)
        if (transport === "kafka") expect(publishers.map(parent)).toEqual(processed)
      }
      expect(millis(of("reads kafka", `receive ${topic}`)[1]!)).toBeGreaterThan(20)
    }).pipe(Effect.scoped),
  150_000
)
