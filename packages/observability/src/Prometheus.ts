/**
 * Effect's metrics as text that Prometheus reads, and a small HTTP server that answers it. Effect 4 has such a module; this one is for
 * Effect 3, and has the same shape.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import * as Text from "./internal/PrometheusText.js"
import * as Metrics from "./Metrics.js"

/**
 * What can be set for the text.
 *
 * @since 0.1.0
 * @category options
 */
export interface FormatOptions {
  /** Only metrics whose name begins with this, as Effect has it. Default: all of the process. */
  readonly startsWith?: string | undefined
  /** What each name begins with in the text. Default: nothing. */
  readonly prefix?: string | undefined
}

/**
 * All metrics of the process in Prometheus's text format 0.0.4. Gauges of buses are set before.
 *
 * Characters that Prometheus does not allow in names are replaced by `_`. A counter ends in `_total`, and a metric with the tag `unit` or
 * `time_unit` in the name of that unit.
 *
 * @since 0.1.0
 * @category accessors
 */
export const format = (options: FormatOptions = {}): Effect.Effect<string> =>
  Effect.zipRight(Metrics.sample, Effect.map(Metric.snapshot, (pairs) => Text.format(pairs, options)))

/**
 * The content type of the text.
 *
 * @since 0.1.0
 * @category accessors
 */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/**
 * The server could not listen.
 *
 * @since 0.1.0
 * @category errors
 */
export class PrometheusServerFailed extends Data.TaggedError("PrometheusServerFailed")<{
  readonly port: number
  readonly cause: unknown
}> {
  override get message() {
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `The server for Prometheus can't listen on port ${this.port}: ${why}`
  }
}

/**
 * What can be set for the server.
 *
 * @since 0.1.0
 * @category options
 */
export interface ServerOptions extends FormatOptions {
  /** 0: the system chooses one. Default: 9464, as exporters of OpenTelemetry have it. */
  readonly port?: number | undefined
  /** Default: `"127.0.0.1"`, which other machines do not reach. `"0.0.0.0"` is for all that reach the machine. */
  readonly host?: string | undefined
  /** Default: `"/metrics"`. */
  readonly path?: string | undefined
}

/**
 * The server that answers Prometheus.
 *
 * @since 0.1.0
 * @category tags
 */
export class PrometheusServer extends Context.Tag("@effect-eventbus/observability/PrometheusServer")<
  PrometheusServer,
  { readonly port: number }
>() {}

/**
 * Answers requests with the text, for an HTTP server of your own.
 *
 * @since 0.1.0
 * @category constructors
 */
export const handler = (
  options: FormatOptions = {}
): Effect.Effect<(request: IncomingMessage, response: ServerResponse) => void> =>
  Effect.map(Effect.runtime<never>(), (runtime) => (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end()
      return
    }
    const answer = Effect.matchCauseEffect(format(options), {
      onFailure: (cause) =>
        Effect.zipRight(
          Effect.logError("The metrics can't be written as text", cause),
          Effect.sync(() => response.writeHead(500).end())
        ),
      onSuccess: (text) =>
        Effect.sync(() =>
          response.writeHead(200, { "content-type": contentType }).end(request.method === "HEAD" ? undefined : text)
        )
    })
    Runtime.runFork(runtime)(answer)
  })

/**
 * A server that answers the text at `/metrics`. It ends with the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const serve = (
  options: ServerOptions = {}
): Effect.Effect<Context.Tag.Service<PrometheusServer>, PrometheusServerFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const { host = "127.0.0.1", path = "/metrics", port = 9464 } = options
    const answer = yield* handler(options)
    const server = yield* Effect.acquireRelease(
      listen(port, host, (request, response) => {
        const [asked] = (request.url ?? "").split("?")
        if (asked === path) answer(request, response)
        else response.writeHead(404).end()
      }),
      close
    )
    return { port: (server.address() as AddressInfo).port }
  })

/**
 * The server as a layer. Beside the bus is the right place: it needs nothing of it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerServer = (options?: ServerOptions): Layer.Layer<PrometheusServer, PrometheusServerFailed> =>
  Layer.scoped(PrometheusServer, serve(options))

const listen = (
  port: number,
  host: string,
  answer: (request: IncomingMessage, response: ServerResponse) => void
): Effect.Effect<HttpServer, PrometheusServerFailed> =>
  Effect.async<HttpServer, PrometheusServerFailed>((resume) => {
    // A client that sends its request slowly, or none, must not keep a socket for ever.
    const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 5_000 }, answer)
    const failed = (cause: Error) => resume(new PrometheusServerFailed({ port, cause }))
    server.once("error", failed)
    try {
      server.listen({ port, host }, () => {
        server.off("error", failed)
        // Such as no room for one more socket: the next request may find some.
        server.on("error", () => {})
        resume(Effect.succeed(server))
      })
    } catch (cause) {
      resume(new PrometheusServerFailed({ port, cause }))
    }
  })

const close = (server: HttpServer): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })
