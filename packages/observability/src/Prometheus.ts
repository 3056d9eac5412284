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
import type { IncomingMessage, ServerResponse } from "node:http"
import * as HttpServer from "./internal/HttpServer.js"
import * as Text from "./internal/PrometheusText.js"
import { Unanswered } from "./internal/Unanswered.js"
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
  Effect.map(Effect.runtime<never>(), (runtime) => {
    const unanswered = new Unanswered("The metrics")
    return (request, response) => {
      if (request.method !== "GET" && request.method !== "HEAD") return HttpServer.refuse(response)
      const answer = Effect.matchCauseEffect(format(options), {
        onFailure: (cause) =>
          Effect.zipRight(unanswered.failed(cause), Effect.sync(() => response.writeHead(500).end())),
        onSuccess: (text) =>
          Effect.map(
            unanswered.answered,
            () =>
              response.writeHead(200, { "content-type": contentType }).end(request.method === "HEAD" ? undefined : text)
          )
      })
      Runtime.runFork(runtime)(answer)
    }
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
    const routes = new Map([[path, yield* handler(options)]])
    return yield* HttpServer.serve({ port, host }, routes, (cause) => new PrometheusServerFailed({ port, cause }))
  })

/**
 * The server as a layer. Beside the bus is the right place: it needs nothing of it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerServer = (options?: ServerOptions): Layer.Layer<PrometheusServer, PrometheusServerFailed> =>
  Layer.scoped(PrometheusServer, serve(options))
