import { EventBus, FailurePolicy, Rollout, Strategy } from "@effect-eventbus/core"
import type { Control, Observer, Subscription } from "@effect-eventbus/core"
import { Metrics, Prometheus } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Schedule, Scope, Stream, TestClock } from "effect"
import { BusMetrics } from "../src/internal/BusMetrics.js"
import { busWith, eventually, placed, topicOf, values } from "./Fixture.js"

/** The values of a client's metrics whose names begin so, by the rest of the name and labels beside transport and client. */
const metricsOf = (clientId: string, ...names: ReadonlyArray<string>) =>
  Effect.map(Prometheus.format(), (text) => {
    const found: Record<string, number> = {}
    for (const [series, value] of values(text, `client_id="${clientId}"`)) {
      const short = series.replace("memory_eventbus_actor_pool_", "")
        .replace(/(transport|client_id)="[^"]*",?/g, "").replace("{}", "")
      if (names.some((name) => short.startsWith(name))) found[short] = value
    }
    return found
  })

const baseline = `{side="baseline",strategy="actor-per-aggregate"}`
const candidate = `{side="candidate",strategy="candidate"}`
const Heap = { open: Effect.succeed(() => 1_000) }
const options: Rollout.Options = {
  candidate: Strategy.pool({ name: "candidate", size: 64 }),
  steps: [{ share: (key) => key.startsWith("b"), for: "1 hour" }, { share: 1, for: "1 hour" }]
}
const atEnd = { rollout_running: 0, [`rollout_share${baseline}`]: 0, [`rollout_share${candidate}`]: 0 }

it.scoped("both sides of a rollout have gauges, which are 0 when it has ended, and how it ended is counted", () => {
  const orders = topicOf()
  const found = metricsOf("sides", "rollout", "dispatch")
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const subscription = yield* bus.subscribe(
      orders,
      ({ n }, { attempt }) =>
        n === 5 && attempt === 1 ? Effect.die("crashed") : Effect.sleep(n === 1 ? "200 millis" : "500 millis"),
      {
        onExhausted: FailurePolicy.drop
      }
    )
    expect(yield* found).toEqual({
      [`dispatch_info${baseline}`]: 1,
      rollout_running: 0,
      "rollouts_total{outcome=\"promoted\"}": 0,
      "rollouts_total{outcome=\"rolled-back\"}": 0,
      "rollouts_total{outcome=\"superseded\"}": 0,
      "rollout_heap_bytes{when=\"before\"}": 0,
      "rollout_heap_bytes{when=\"now\"}": 0
    })
    const rollout = yield* Effect.provideService(Rollout.start(bus.dispatch, options), Rollout.Heap, Heap)
    expect(yield* found).toMatchObject({
      rollout_running: 1,
      [`dispatch_info${baseline}`]: 1,
      [`dispatch_info${candidate}`]: 1,
      [`rollout_messages${candidate}`]: 0
    })
    yield* bus.publishAll(orders, [...[1, 1, 1].map((n, i) => placed(`a${i}`, n)), placed("b", 2), placed("c", 5)])
    yield* TestClock.adjust("4 seconds")
    yield* eventually("all is handled", () => Effect.map(subscription.stats, ({ handled }) => handled === 5))
    yield* TestClock.adjust("6 seconds")
    const figures = yield* rollout.figures
    expect(figures).toMatchObject({ baseline: { messages: 4, restarts: 1 }, candidate: { messages: 1, errors: 0 } })
    expect(yield* found).toMatchObject({
      [`rollout_share${baseline}`]: 0.8,
      [`rollout_share${candidate}`]: 0.2,
      [`rollout_messages${baseline}`]: 4,
      [`rollout_messages_per_second${baseline}`]: 0.4,
      [`rollout_messages_per_second${candidate}`]: 0.1,
      [`rollout_latency_p99_seconds${baseline}`]: figures.baseline.p99! / 1_000,
      [`rollout_latency_p99_seconds${candidate}`]: figures.candidate.p99! / 1_000,
      [`rollout_wait_p99_seconds${candidate}`]: figures.candidate.waiting! / 1_000,
      [`rollout_handling_p99_seconds${candidate}`]: figures.candidate.handling! / 1_000,
      [`rollout_restarts_ratio${baseline}`]: 0.25,
      [`rollout_restarts_ratio${candidate}`]: 0,
      [`rollout_lost${candidate}`]: 0,
      "rollout_heap_bytes{when=\"before\"}": 1_000,
      "rollout_heap_bytes{when=\"now\"}": 1_000
    })
    // Of the next step nothing is known yet.
    yield* rollout.promote({ force: true })
    expect(yield* found).toMatchObject({
      rollout_running: 1,
      [`rollout_share${candidate}`]: 1,
      [`rollout_messages${baseline}`]: 0,
      [`rollout_latency_p99_seconds${candidate}`]: 0
    })
    yield* rollout.rollback
    const after = yield* found
    expect(after).toMatchObject({
      ...atEnd,
      [`rollout_messages${candidate}`]: 0,
      [`dispatch_info${baseline}`]: 1,
      [`dispatch_info${candidate}`]: 0,
      "rollouts_total{outcome=\"rolled-back\"}": 1
    })
    expect(Object.entries(after).filter(([name, value]) => value !== 0 && name.startsWith("rollout_"))).toEqual([])
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "sides" }))))
})

it.scoped("a rollout whose scope ends has no gauges any more, and one that is known from its store is not counted again", () => {
  const found = metricsOf("scopes", "rollout", "dispatch")
  return Effect.gen(function*() {
    const { dispatch } = yield* EventBus.EventBus
    const store = yield* Rollout.memoryStore
    const scope = yield* Scope.make()
    yield* Scope.extend(Rollout.start(dispatch, { ...options, store }), scope)
    expect(yield* found).toMatchObject({ rollout_running: 1 })
    yield* Scope.close(scope, Exit.void)
    expect(yield* found).toMatchObject({ ...atEnd, [`dispatch_info${candidate}`]: 0 })
    const rollout = yield* Rollout.start(dispatch, { ...options, store })
    expect(yield* found).toMatchObject({ rollout_running: 1 })
    yield* rollout.promote({ force: true })
    yield* rollout.promote({ force: true })
    const promoted = { ...atEnd, "rollouts_total{outcome=\"promoted\"}": 1 }
    expect(yield* found).toMatchObject({
      ...promoted,
      [`dispatch_info${baseline}`]: 0,
      [`dispatch_info{side="baseline",strategy="candidate"}`]: 1
    })
    yield* dispatch.switchTo("actor-per-aggregate")
    yield* Rollout.start(dispatch, { ...options, store })
    expect(yield* found).toMatchObject(promoted)
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "scopes" }))))
})

it.live("the strategy that a bus begins with is that of its config", () => {
  const found = metricsOf("begins", "dispatch")
  return Effect.gen(function*() {
    yield* EventBus.EventBus
    expect(yield* found).toEqual({ "dispatch_info{side=\"baseline\",strategy=\"keyed-workers\"}": 1 })
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "begins" }), { dispatch: "keyed-workers" })))
})

it.live("when the bus has ended all of it is 0", () => {
  const found = metricsOf("ended", "rollout_", "dispatch")
  return Effect.gen(function*() {
    yield* Effect.scoped(Effect.gen(function*() {
      const context = yield* Layer.build(busWith(Metrics.layer({ clientId: "ended" })))
      const { dispatch } = yield* Effect.provide(EventBus.EventBus, context)
      yield* dispatch.canary("actor-pool", 0.5)
      expect(Object.values(yield* found).filter((value) => value === 1)).toHaveLength(2)
    }))
    expect(Object.values(yield* found).filter((value) => value !== 0)).toEqual([])
  })
})

/** A bus's metrics whose values are kept by name and labels. */
const scripted = (subscriptions: Observer.Bus["subscriptions"] = () => []) => {
  const set: Record<string, number> = {}
  const client = {
    transport: "own",
    own: ({ name }: { readonly name: string }, labels: Readonly<Record<string, string>>) => (value: number) => {
      set[[name, ...Object.values(labels)].join(" ")] = value
    },
    convention: undefined
  }
  const bus = { transport: "own", strategy: "first", subscriptions, starting: () => [] }
  return { set, metrics: new BusMetrics(client, bus, undefined, () => 0) }
}

it("strategies beyond those that can be told apart are one", () => {
  const { metrics, set } = scripted()
  for (let i = 0; i < 1_000; i++) {
    metrics.event({ _tag: "Switched", from: "any", to: `strategy-${i}`, candidate: undefined })
  }
  const infos = Object.entries(set).filter(([name]) => name.startsWith("dispatch_info"))
  expect(infos.length).toBeLessThan(70)
  expect(infos.filter(([, value]) => value === 1)).toEqual([["dispatch_info baseline _OTHER", 1]])
})

it.scoped("how many aggregates are paused by hand, and for how long something is", () => {
  const orders = topicOf()
  const found = Effect.map(
    metricsOf("paused-for", "aggregates_paused", "paused_seconds"),
    (all) => ["aggregates_paused", "paused_seconds"].map((name) => all[`${name}{topic="${orders.name}",group="group"}`])
  )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { control } = yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
    expect(yield* found).toEqual([0, 0])
    yield* control.pauseAggregate("a")
    yield* TestClock.adjust("1 minute")
    yield* control.pauseAggregate("b", { until: "2 minutes" })
    yield* TestClock.adjust("30 seconds")
    expect(yield* found).toEqual([2, 90])
    yield* control.resumeAggregate("a")
    expect(yield* found).toEqual([1, 30])
    yield* control.pause()
    yield* control.resumeAggregate("b")
    yield* TestClock.adjust("10 seconds")
    expect(yield* found).toEqual([0, 10])
    yield* control.resume
    expect(yield* found).toEqual([0, 0])
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "paused-for" }))))
})

it.scoped("how many aggregates are parked, and how many letters they have", () => {
  const orders = topicOf()
  const found = Effect.map(
    metricsOf("parked-now", "parked_aggregates", "parked_letters"),
    (all) => ["parked_aggregates", "parked_letters"].map((name) => all[`${name}{topic="${orders.name}",group="group"}`])
  )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { control, stats } = yield* bus.subscribe(orders, () => Effect.fail("refused"), {
      retry: Schedule.recurs(0),
      onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop })
    })
    expect(yield* found).toEqual([0, 0])
    yield* bus.publishAll(orders, [placed("a", 1), placed("a", 2), placed("b", 1)])
    const until = (letters: number) =>
      Effect.repeat(Effect.zipRight(Effect.yieldNow(), stats), { until: (now) => now.parkedLetters === letters })
    yield* until(3)
    expect(yield* found).toEqual([2, 3])
    yield* control.discard("all", { who: "anna", why: "a test" })
    yield* until(0)
    expect((yield* found)[1]).toBe(0)
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "parked-now" }))))
})

it.live("a subscription that was paused by hand says so until it goes on", () => {
  const orders = topicOf()
  const found = Effect.map(
    metricsOf("paused", "paused"),
    (all) => all[`paused{topic="${orders.name}",group="group"}`]
  )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { control } = yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
    yield* control.pauseAggregate("a")
    expect(yield* found).toBe(0)
    yield* control.pause()
    expect(yield* found).toBe(1)
    yield* control.resume
    expect(yield* found).toBe(0)
  }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer({ clientId: "paused" }))))
})

it.effect("a subscription that somebody has paused at the broker says so", () =>
  Effect.gen(function*() {
    let problems: ReadonlyArray<{ readonly message: string; readonly since: number; readonly kind?: "paused" }> = []
    const { metrics, set } = scripted(() => [{
      topic: "orders",
      group: "group",
      failures: Stream.empty,
      close: Effect.succeed({ unfinished: 0, lost: 0 }),
      stats: Effect.succeed({ actors: 0, endedActors: 0, held: 0, fullestMailbox: 0 } as Subscription.Stats),
      status: Effect.sync(() => ({ isConnected: true, partitions: [], problems })),
      control: { paused: Effect.succeed(Option.none()) } as Control.Control,
      isInRecoveryMode: Effect.succeed(false),
      setRecoveryMode: () => Effect.void,
      recoveryChanges: Stream.empty
    }])
    problems = [{ message: "a fetch fails", since: 0 }]
    yield* metrics.sample
    expect([set["paused orders group"], set["problems orders group"]]).toEqual([0, 1])
    problems = [...problems, { message: "paused", since: 0, kind: "paused" }]
    yield* metrics.sample
    expect(set["paused orders group"]).toBe(1)
    problems = []
    yield* metrics.sample
    expect(set["paused orders group"]).toBe(0)
  }))
