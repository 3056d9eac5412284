import { EventBus, MemoryTransport } from "@effect-eventbus/core"
import type { EventBusError } from "@effect-eventbus/core"
import { Health, Lag, Metrics, Probe } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

const bus = EventBus.layer.pipe(Layer.provide(MemoryTransport.layer()), Layer.provideMerge(Health.layer()), Layer.orDie)

/** Without a compiler, or from a file, anything may be there. */
const anything = (options: object): never => options as never

const cases: ReadonlyArray<
  readonly [
    string,
    Layer.Layer<never, EventBusError.InvalidConfiguration, EventBus.EventBus | Health.Health>,
    ReadonlyArray<RegExp>
  ]
> = [
  ["Metrics", Metrics.layer(anything({ interval: "soon", clientId: "", checkOrders: true })), [
    /^metrics.interval: expected a duration such as "10 seconds", above zero and finite, got soon$/,
    /^metrics.clientId: expected a text that is not blank$/,
    /^metrics.checkOrders: unknown setting$/
  ]],
  ["Metrics", Metrics.layer({ interval: 0 }), [/^metrics.interval: /]],
  [
    "Health",
    Health.layer(
      anything({ interval: "never", stalledAfter: "-1 seconds", blockedAfter: 0, window: {}, floodFrom: "many" })
    ),
    [
      /^health.interval: .* got never$/,
      /^health.stalledAfter: /,
      /^health.blockedAfter: .*above zero/,
      /^health.window: /,
      /^health.floodFrom: expected a number of at least 0, got string$/
    ]
  ],
  ["Lag", Lag.layer(anything({ age: "old", messages: -1, recoversAt: 2, interval: Infinity })), [
    /^lag.age: .* got old$/,
    /^lag.interval: .*finite, got Infinity$/,
    /^lag.messages: expected a number of at least 0, got -1$/,
    /^lag.recoversAt: expected a number from 0 to 1, got 2$/
  ]],
  ["Probe", Probe.layer(anything({ timeout: "long", interval: "-2 minutes", failFrom: 0, group: " " })), [
    /^probe.timeout: /,
    /^probe.interval: /,
    /^probe.failFrom: /,
    /^probe.group: /
  ]]
]

for (const [name, layer, issues] of cases) {
  it.effect(`${name}: wrong options are a typed error with all of them: ${issues.length}`, () =>
    Effect.gen(function*() {
      const failed = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      expect(failed._tag).toBe("InvalidConfiguration")
      expect(failed.issues).toHaveLength(issues.length)
      for (const issue of issues) expect(failed.issues).toContainEqual(expect.stringMatching(issue))
    }).pipe(Effect.provide(bus)))
}

it.effect("bounds without an end, and none at all, are right", () =>
  Effect.scoped(Effect.all([
    Layer.build(Metrics.layer({ interval: "1 day" })),
    Layer.build(Health.layer({ stalledAfter: Infinity, failingAfter: 0, floodFrom: Infinity, watchdog: false })),
    Layer.build(Lag.layer({ messages: Infinity, age: "1 hour", onChange: () => Effect.void })),
    Layer.build(Probe.layer({ timeout: "1 second", warnFrom: Infinity }))
  ])).pipe(Effect.provide(bus)))
