/**
 * The health over HTTP: `/live` and `/ready`, for the probes of an orchestrator, and the metrics beside them if wanted.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, ServerResponse } from "node:http"
import { Health, type Report } from "./Health.js"
import * as HttpServer from "./internal/HttpServer.js"
import { Unanswered } from "./internal/Unanswered.js"
import * as Prometheus from "./Prometheus.js"

/**
 * The server could not listen.
 *
 * @since 0.1.0
 * @category errors
 */
export class HealthServerFailed extends Data.TaggedError("HealthServerFailed")<{
  readonly port: number
  readonly cause: unknown
}> {
  override get message() {
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    return `The server for the health can't listen on port ${this.port}: ${why}`
  }
}

/**
 * What can be set for the answers.
 *
 * @since 0.1.0
 * @category options
 */
export interface HandlerOptions {
  /** Whether the findings are told, with topics and aggregate ids, or the verdict only. Default: `true`. */
  readonly details?: boolean | undefined
}

/**
 * What can be set for the server.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options extends HandlerOptions {
  /** 0: the system chooses one. Default: 9465. */
  readonly port?: number | undefined
  /** Default: `"127.0.0.1"`, which other machines do not reach. `"0.0.0.0"` is for all that reach the machine, as probes of Kubernetes do. */
  readonly host?: string | undefined
  /** Default: `"/live"`. */
  readonly livePath?: string | undefined
  /** Default: `"/ready"`. */
  readonly readyPath?: string | undefined
  /** Whether the same server answers Prometheus at `/metrics`. Default: `false`. */
  readonly metrics?: boolean | Prometheus.FormatOptions | undefined
}

/**
 * The server that answers probes.
 *
 * @since 0.1.0
 * @category tags
 */
export class HealthServer extends Context.Tag("@effect-eventbus/observability/HealthServer")<
  HealthServer,
  { readonly port: number }
>() {}

/**
 * Answers requests with 200 or 503, for an HTTP server of your own: whether the process is `live`, or the buses are `ready`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const handler = (
  of: "live" | "ready",
  options: HandlerOptions = {}
): Effect.Effect<(request: IncomingMessage, response: ServerResponse) => void, never, Health> =>
  Effect.gen(function*() {
    const health = yield* Health
    const runtime = yield* Effect.runtime<never>()
    const unanswered = new Unanswered("The health")
    return (request, response) => {
      if (request.method !== "GET" && request.method !== "HEAD") return HttpServer.refuse(response)
      const answer = Effect.matchCauseEffect(health.check, {
        onFailure: (cause) =>
          Effect.zipRight(unanswered.failed(cause), Effect.sync(() => response.writeHead(500).end())),
        onSuccess: (report) =>
          Effect.map(unanswered.answered, () => {
            const isGood = of === "live" ? report.isLive : report.isReady
            response.writeHead(isGood ? 200 : 503, {
              "content-type": "application/json; charset=utf-8",
              "cache-control": "no-store"
            }).end(request.method === "HEAD" ? undefined : bodyOf(report, isGood, options.details ?? true))
          })
      })
      Runtime.runFork(runtime)(answer)
    }
  })

/**
 * A server that answers `/live` and `/ready`. It ends with the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const serve = (
  options: Options = {}
): Effect.Effect<Context.Tag.Service<HealthServer>, HealthServerFailed, Health | Scope.Scope> =>
  Effect.gen(function*() {
    const { host = "127.0.0.1", livePath = "/live", metrics = false, port = 9465, readyPath = "/ready" } = options
    const routes = new Map([[livePath, yield* handler("live", options)], [readyPath, yield* handler("ready", options)]])
    if (metrics !== false) routes.set("/metrics", yield* Prometheus.handler(metrics === true ? {} : metrics))
    return yield* HttpServer.serve({ port, host }, routes, (cause) => new HealthServerFailed({ port, cause }))
  })

/**
 * The server as a layer, above `Health.layer`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<HealthServer, HealthServerFailed, Health> =>
  Layer.scoped(HealthServer, serve(options))

const bodyOf = (report: Report, isGood: boolean, details: boolean): string =>
  JSON.stringify({
    status: isGood ? "ok" : "failing",
    live: report.isLive,
    ready: report.isReady,
    ...(details
      ? {
        eventLoopDelay: report.eventLoopDelay,
        findings: report.findings.map(({ age, since, ...rest }) => ({
          ...rest,
          since: new Date(since).toISOString(),
          seconds: Math.round(Duration.toSeconds(age))
        }))
      }
      : {})
  }) + "\n"
