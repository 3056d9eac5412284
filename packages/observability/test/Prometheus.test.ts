import { Prometheus } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Metric, MetricBoundaries, Scope } from "effect"
import { get as ask, request } from "node:http"

const startsWith = "test.prometheus"

it.effect("each kind of Effect's metrics is written as Prometheus reads it", () =>
  Effect.gen(function*() {
    const requests: Metric.Metric.Counter<number> = Metric.counter(`${startsWith}.requests`, {
      description: "One \\ two\nthree",
      incremental: true
    })
    yield* Metric.update(requests.pipe(Metric.tagged("path", "a\"b\\c\nd")), 1)
    yield* Metric.incrementBy(Metric.counter(`${startsWith}.balance`), -2)
    yield* Metric.set(Metric.gauge(`${startsWith}.load`), 0.5)
    const wait = Metric.histogram(`${startsWith}.wait`, MetricBoundaries.fromIterable([0.1, 1])).pipe(
      Metric.tagged("unit", "s")
    )
    yield* Metric.update(wait, 0.1)
    yield* Metric.update(wait, 7)
    yield* Metric.update(Metric.frequency(`${startsWith}.words`), "yes")
    yield* Metric.update(
      Metric.summary({ name: `${startsWith}.sizes`, maxAge: "1 day", maxSize: 10, error: 0, quantiles: [0.5] }),
      3
    )
    yield* Metric.update(Metric.counter(`${startsWith}.big`, { bigint: true, incremental: true }), 12n)
    expect(yield* Prometheus.format({ startsWith, prefix: "shop_" })).toBe([
      "# HELP shop_test_prometheus_requests_total One \\\\ two\\nthree",
      "# TYPE shop_test_prometheus_requests_total counter",
      "shop_test_prometheus_requests_total{path=\"a\\\"b\\\\c\\nd\"} 1",
      "# TYPE shop_test_prometheus_balance gauge",
      "shop_test_prometheus_balance -2",
      "# TYPE shop_test_prometheus_load gauge",
      "shop_test_prometheus_load 0.5",
      "# TYPE shop_test_prometheus_wait_seconds histogram",
      "shop_test_prometheus_wait_seconds_bucket{le=\"0.1\"} 1",
      "shop_test_prometheus_wait_seconds_bucket{le=\"1\"} 1",
      "shop_test_prometheus_wait_seconds_bucket{le=\"+Inf\"} 2",
      "shop_test_prometheus_wait_seconds_sum 7.1",
      "shop_test_prometheus_wait_seconds_count 2",
      "# TYPE shop_test_prometheus_words_total counter",
      "shop_test_prometheus_words_total{key=\"yes\"} 1",
      "# TYPE shop_test_prometheus_sizes summary",
      "shop_test_prometheus_sizes{quantile=\"0.5\"} 3",
      "shop_test_prometheus_sizes_sum 3",
      "shop_test_prometheus_sizes_count 1",
      "# TYPE shop_test_prometheus_big_total counter",
      "shop_test_prometheus_big_total 12",
      ""
    ].join("\n"))
  }))

it.effect("no name and no series is written twice, whatever the names are: Prometheus would refuse everything", () =>
  Effect.gen(function*() {
    const name = "test_twice"
    yield* Metric.set(Metric.gauge(`${name}.a`).pipe(Metric.tagged("x.y", "1"), Metric.tagged("x-y", "2")), 1)
    yield* Metric.set(Metric.gauge(`${name}_a`).pipe(Metric.tagged("x_y", "1;2")), 2)
    yield* Metric.update(Metric.gauge(`${name}-a`).pipe(Metric.tagged("other", "")), 1)
    yield* Metric.update(Metric.frequency(`${name}_a`), "word")
    yield* Metric.set(Metric.gauge(`${name}_odd`).pipe(Metric.tagged("1st", "v"), Metric.tagged("__own", "w")), NaN)
    expect(yield* Prometheus.format({ startsWith: name })).toBe([
      "# TYPE test_twice_a gauge",
      "test_twice_a{x_y=\"1;2\"} 1",
      "test_twice_a{other=\"\"} 1",
      "# TYPE test_twice_a_total counter",
      "test_twice_a_total{key=\"word\"} 1",
      "# TYPE test_twice_odd gauge",
      "test_twice_odd{_1st=\"v\",key__own=\"w\"} NaN",
      ""
    ].join("\n"))
    expect(yield* Prometheus.format({ startsWith: "nobody has this" })).toBe("")
  }))

const get = (port: number, path: string, method = "GET") =>
  Effect.async<
    { readonly status: number | undefined; readonly type: string | undefined; readonly body: string },
    Error
  >(
    (resume) => {
      const sent = request({ port, host: "127.0.0.1", path, method, agent: false }, (response) => {
        let body = ""
        response.setEncoding("utf8").on("data", (chunk: string) => body += chunk).on(
          "end",
          () => resume(Effect.succeed({ status: response.statusCode, type: response.headers["content-type"], body }))
        )
      })
      sent.on("error", (error) => resume(Effect.fail(error))).end()
    }
  )

it.live("a server answers the text at /metrics, and ends with its scope, whoever is still connected", () =>
  Effect.gen(function*() {
    yield* Metric.set(Metric.gauge("test_served"), 3)
    const scope = yield* Scope.make()
    const layer = Prometheus.layerServer({ port: 0, startsWith: "test_served" })
    const context = yield* Layer.buildWithScope(layer, scope)
    const { port } = yield* Effect.provide(Prometheus.PrometheusServer, context)
    const text = "# TYPE test_served gauge\ntest_served 3\n"
    expect(yield* get(port, "/metrics?now")).toEqual({ status: 200, type: Prometheus.contentType, body: text })
    expect(yield* get(port, "/metrics", "HEAD")).toEqual({ status: 200, type: Prometheus.contentType, body: "" })
    expect((yield* get(port, "/")).status).toBe(404)
    expect((yield* get(port, "/metrics", "POST")).status).toBe(405)
    const taken = yield* Effect.flip(Effect.scoped(Prometheus.serve({ port })))
    expect(taken).toMatchObject({ _tag: "PrometheusServerFailed", port })
    expect(taken.message).toMatch(/can't listen on port \d+: .*EADDRINUSE/)
    const invalid = yield* Effect.flip(Effect.scoped(Prometheus.serve({ port: 70_000 })))
    expect(invalid.message).toMatch(/can't listen on port 70000: /)
    // A client that keeps its connection.
    const kept = ask(
      { port, host: "127.0.0.1", path: "/metrics", headers: { connection: "keep-alive" } },
      (response) => response.resume()
    )
    kept.on("error", () => {})
    yield* Effect.sleep(20)
    yield* Effect.timeoutFail(Scope.close(scope, Exit.void), { duration: "2 seconds", onTimeout: () => "it hangs" })
    expect((yield* Effect.flip(get(port, "/metrics"))).message).toContain("ECONNREFUSED")
  }))
