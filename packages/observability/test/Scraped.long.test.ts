/** A real Prometheus scrapes a service on real brokers: each expression of the dashboard and of the rules has a value. */
import { Prometheus } from "@effect-eventbus/brokers"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { expect, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { inject } from "vitest"
import * as Dashboard from "../scripts/Dashboard.js"
import * as Rules from "../scripts/Rules.js"
import * as Programs from "./Programs.js"

/** A test has no hour. */
const short: Rules.Windows = { rate: "10s", events: "10s", baseline: ["5s", "2s"] }

/** As Grafana fills them in. */
const filled = (expr: string, transport: string) =>
  expr.replaceAll("${transport}", transport).replaceAll("$__rate_interval", "10s").replaceAll("$topic", ".*")
    .replaceAll("$group", ".*")

const expressionsOf = (transport: string): ReadonlyArray<string> => {
  const { operation, rollback } = Rules.alerts(transport, short)
  return [
    ...Dashboard.rows.flatMap(({ panels }) => panels).flatMap(({ targets }) =>
      targets.flatMap(({ expr, only }) => only === undefined || only === transport ? [filled(expr, transport)] : [])
    ),
    ...Rules.recordings(transport, short).map(({ expr }) => expr),
    ...[...rollback, ...operation].map(({ value }) => value)
  ]
}

interface Answer {
  readonly result: ReadonlyArray<{ readonly value: readonly [at: number, value: string] }>
}
interface RuleState {
  readonly name: string
  readonly health: string
  readonly lastError?: string
}

it.live.each(["kafka", "nats"])("on %s each panel and each rule has a value", (transport) =>
  Effect.gen(function*() {
    const shop = yield* Programs.start("shop", {
      topic: `test.scraped.${process.pid}`,
      transport,
      kafka: inject("kafkaBrokers"),
      nats: inject("natsServers")
    })
    const { port } = yield* shop.said
    const prometheus = yield* Prometheus.make({
      targets: [`127.0.0.1:${port}`],
      rules: Rules.format(transport, short),
      interval: "500ms"
    })
    /** Those without a value that is a number. */
    const missing = Effect.filter(expressionsOf(transport), (expr) =>
      Effect.map(prometheus.api(`query?query=${encodeURIComponent(expr)}`), (data) =>
        !(data as Answer).result.some(({ value }) =>
          Number.isFinite(Number(value[1]))
        )), { concurrency: 4 })
    const none = yield* missing.pipe(
      Effect.repeat(
        Schedule.spaced("500 millis").pipe(
          Schedule.zipRight(Schedule.identity<ReadonlyArray<string>>()),
          Schedule.untilInput((found) =>
            found.length === 0
          )
        )
      ),
      Effect.timeoutOption("60 seconds")
    )
    expect(none._tag === "None" ? yield* missing : []).toEqual([])

    const { groups } = (yield* prometheus.api("rules")) as {
      groups: ReadonlyArray<{ rules: ReadonlyArray<RuleState> }>
    }
    const states = groups.flatMap(({ rules }) => rules)
    const { operation, rollback } = Rules.alerts(transport)
    expect(states.map(({ name }) => name).sort()).toEqual([
      ...Rules.recordings(transport).map(({ record }) => record),
      ...[...rollback, ...operation].map(({ alert }) => alert)
    ].sort())
    expect(states.filter(({ health }) => health !== "ok")).toEqual([])
  }).pipe(Effect.scoped), 150_000)
