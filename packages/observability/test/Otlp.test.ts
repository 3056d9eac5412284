/** Spans as they go over the wire by OTLP over HTTP, in JSON and in protobuf, to a collector that knows nothing but the protocol. */
import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import { Tracing } from "@effect-eventbus/observability"
import { Otlp } from "@effect/opentelemetry"
import { FetchHttpClient } from "@effect/platform"
import { expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer } from "effect"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { busWith, placed, topicOf } from "./Fixture.js"

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
  readonly name: string
  readonly kind: number
  readonly attributes: Readonly<Record<string, string>>
  readonly events: ReadonlyArray<string>
  readonly links: ReadonlyArray<string>
}

/** Of each type of the protocol the numbers of its fields, and what they are. */
type Type = { readonly [number: number]: readonly [name: string, kind: "text" | "hex" | "number" | Type] }

const value: Type = { 1: ["text", "text"], 2: ["bool", "number"], 3: ["int", "number"], 4: ["double", "number"] }
const attribute: Type = { 1: ["key", "text"], 2: ["value", value] }
const span: Type = {
  1: ["traceId", "hex"],
  2: ["spanId", "hex"],
  4: ["parentSpanId", "hex"],
  5: ["name", "text"],
  6: ["kind", "number"],
  9: ["attributes", attribute],
  11: ["events", { 2: ["name", "text"] }],
  13: ["links", { 1: ["traceId", "hex"] }]
}
const request: Type = {
  1: ["resourceSpans", { 1: ["resource", { 1: ["attributes", attribute] }], 2: ["scopeSpans", { 2: ["spans", span] }] }]
}

type Message = { readonly [name: string]: ReadonlyArray<unknown> }

const read = (bytes: Buffer, type: Type): Message => {
  const found: Record<string, Array<unknown>> = {}
  let at = 0
  const varint = () => {
    let result = 0n
    for (let shift = 0n;; shift += 7n) {
      const byte = bytes[at++]!
      result |= BigInt(byte & 127) << shift
      if (byte < 128) return result
    }
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const wire = tag & 7
    let content: bigint | number | Buffer
    if (wire === 0) content = varint()
    else if (wire === 1) content = bytes.readDoubleLE((at += 8) - 8)
    else if (wire === 2) {
      const length = Number(varint())
      content = bytes.subarray(at, at += length)
    } else throw new Error(`wire type ${wire}`)
    const [name, kind] = type[tag >> 3] ?? []
    if (name === undefined) continue
    const one = kind === "number"
      ? Number(content)
      : kind === "text"
      ? (content as Buffer).toString()
      : kind === "hex"
      ? (content as Buffer).toString("hex")
      : read(content as Buffer, kind!)
    found[name] = [...(found[name] ?? []), one]
  }
  return found
}

/** The form that both have in common. */
const ofProtobuf = (body: Buffer): ReadonlyArray<Span> => {
  const inside = (message: unknown, name: string) => ((message as Message)[name] ?? []) as ReadonlyArray<Message>
  const text = (message: Message, name: string) => String(message[name]?.[0] ?? "")
  return inside(read(body, request), "resourceSpans").flatMap((all) =>
    inside(all, "scopeSpans").flatMap((scope) =>
      inside(scope, "spans").map((one) => ({
        traceId: text(one, "traceId"),
        spanId: text(one, "spanId"),
        parentSpanId: text(one, "parentSpanId"),
        name: text(one, "name"),
        kind: Number(one["kind"]?.[0]),
        attributes: Object.fromEntries(
          inside(one, "attributes").map((
            each
          ) => [text(each, "key"), String(Object.values(inside(each, "value")[0]!)[0])])
        ),
        events: inside(one, "events").map((event) => text(event, "name")),
        links: inside(one, "links").map((link) => text(link, "traceId"))
      }))
    )
  )
}

interface Json {
  readonly resourceSpans: ReadonlyArray<{
    readonly scopeSpans: ReadonlyArray<{
      readonly spans: ReadonlyArray<
        Pick<Span, "traceId" | "spanId" | "name" | "kind"> & {
          readonly parentSpanId?: string
          readonly attributes: ReadonlyArray<
            { readonly key: string; readonly value: Readonly<Record<string, unknown>> }
          >
          readonly events: ReadonlyArray<{ readonly name: string }>
          readonly links: ReadonlyArray<{ readonly traceId: string }>
        }
      >
    }>
  }>
}

const ofJson = (body: Buffer): ReadonlyArray<Span> =>
  (JSON.parse(body.toString()) as Json).resourceSpans
    .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
    .map(({ attributes, events, kind, links, name, parentSpanId = "", spanId, traceId }) => ({
      traceId,
      spanId,
      parentSpanId,
      name,
      kind,
      attributes: Object.fromEntries(attributes.map(({ key, value }) => [key, String(Object.values(value)[0])])),
      events: events.map(({ name }) => name),
      links: links.map(({ traceId }) => traceId)
    }))

const collector = Effect.acquireRelease(
  Effect.async<{ readonly server: Server; readonly bodies: Array<readonly [type: string, Buffer]> }>((resume) => {
    const bodies: Array<readonly [string, Buffer]> = []
    const server = createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
        if (request.url === "/v1/traces") bodies.push([request.headers["content-type"] ?? "", Buffer.concat(chunks)])
        response.writeHead(200).end()
      })
    }).listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, bodies })))
  }),
  ({ server }) =>
    Effect.async<void>((resume) => {
      server.close(() => resume(Effect.void))
      server.closeAllConnections()
    })
)

const forms = [
  ["application/json", Otlp.layerJson, ofJson],
  ["application/x-protobuf", Otlp.layerProtobuf, ofProtobuf]
] as const

for (const [type, otlp, parse] of forms) {
  it.live(`a message's spans go to a collector as ${type}`, () =>
    Effect.gen(function*() {
      const { bodies, server } = yield* collector
      const orders = topicOf()
      const exporter = otlp({
        baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        resource: { serviceName: "orders" }
      }).pipe(Layer.provide(FetchHttpClient.layer))
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const ended = yield* Deferred.make<void>()
        yield* bus.subscribe(
          orders,
          (_, { attempt }) => attempt === 1 ? Effect.fail("busy") : Deferred.succeed(ended, undefined),
          { onExhausted: FailurePolicy.drop }
        )
        yield* bus.publish(orders, placed("order-1", 1))
        yield* Deferred.await(ended)
        // Closing waits for the end of the message, and the exporter's end sends what is left.
      }).pipe(Effect.scoped, Effect.provide(busWith(Tracing.layer())), Effect.provide(exporter))
      expect(new Set(bodies.map(([type]) => type))).toEqual(new Set([type]))
      const spans = bodies.flatMap(([, body]) => parse(body))
      const named = (operation: string) => spans.find(({ name }) => name === `${operation} ${orders.name}`)!
      const [publish, receive, process] = [named("publish"), named("receive"), named("process")]
      expect(spans).toHaveLength(3)
      expect([publish.kind, receive.kind, process.kind]).toEqual([4, 3, 5])
      expect(publish.traceId).toMatch(/^[0-9a-f]{32}$/)
      expect([process.parentSpanId, process.traceId]).toEqual([receive.spanId, receive.traceId])
      expect([receive.links, process.links]).toEqual([[publish.traceId], [publish.traceId]])
      expect(process.attributes).toMatchObject({
        "messaging.system": "memory",
        "messaging.destination.name": orders.name,
        "messaging.consumer.group.name": "group",
        "eventbus.aggregate.id": "order-1",
        "eventbus.outcome": "handled",
        "eventbus.attempts": "2"
      })
      expect(process.events).toEqual(["messaging.process.exception", "eventbus.attempt"])
    }).pipe(Effect.scoped))
}
