import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import type { Control, Observer, Subscription } from "@effect-eventbus/core"
import { Metrics, Prometheus } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Metric, Option, Stream, TestClock } from "effect"
import { BusMetrics } from "../src/internal/BusMetrics.js"
import { ConnectionMetrics } from "../src/internal/ConnectionMetrics.js"
import { busWith, eventually, metricsOf, placed, topicOf, values } from "./Fixture.js"

it.live("what happens to messages is counted by topic and group, and never by aggregate", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.subscribe(orders, ({ n }, { attempt }) => {
      if (n === 2 && attempt < 3) return Effect.fail("busy")
      if (n === 3) return Effect.fail("broken")
      if (n === 4 && attempt === 1) return Effect.die("crashed")
      return Effect.void
    }, {
      onExhausted: FailurePolicy.deadLetter(`${orders.name}.dead`),
      onError: (error) => error === "broken" ? FailurePolicy.deadLetter(`${orders.name}.dead`) : FailurePolicy.retry
    })
    for (let n = 1; n <= 4; n++) yield* bus.publish(orders, placed(`secret-${n}`, n))
    const metrics = metricsOf(orders.name)
    yield* eventually(
      "all have ended",
      () => Effect.map(metrics, (found) => found[`messages_processed_total{outcome="handled"}`] === 3)
    )
    yield* eventually("it is settled", () => Effect.map(metrics, (found) => found["consumer_lag"] === 0))
    expect(yield* metrics).toMatchObject({
      messages_sent_total: 4,
      publish_failures_total: 0,
      publish_latency_seconds_count: 4,
      messages_received_total: 4,
      "messages_processed_total{outcome=\"handled\"}": 3,
      "messages_processed_total{outcome=\"dead-lettered\"}": 1,
      dead_letters_total: 1,
      message_latency_seconds_count: 4,
      message_wait_seconds_count: 4,
      // 1 + 3 + 1 + 2 attempts.
      message_handling_seconds_count: 7,
      retries_total: 3,
      actor_restarted_total: 1,
      duplicates_announced_total: 0,
      "in_flight{state=\"queued\"}": 0,
      "in_flight{state=\"running\"}": 0,
      partitions_assigned: 1,
      partitions_assigned_total: 1,
      actors: 4,
      watermark_lag: 0,
      messages_held: 0
    })
    const text = yield* Prometheus.format()
    expect(text).not.toContain("secret")
    const conventional = values(text, `messaging_destination_name="${orders.name}"`)
    const common = `messaging_system="memory",messaging_client_id="eventbus"`
    const processed = `${common},messaging_operation_name="process",messaging_destination_name="${orders.name}",` +
      `messaging_consumer_group_name="group",messaging_destination_partition_id="0"`
    expect(conventional.get(`messaging_client_consumed_messages_total{${processed}}`)).toBe(4)
    expect(conventional.get(`messaging_process_duration_seconds_count{${processed}}`)).toBe(3)
    expect(conventional.get(`messaging_process_duration_seconds_count{${processed},error_type="string"}`)).toBe(4)
    const sent = `${common},messaging_operation_name="publish",messaging_destination_name="${orders.name}"`
    expect(conventional.get(`messaging_client_sent_messages_total{${sent}}`)).toBe(4)
    expect(conventional.get(
      `messaging_client_operation_duration_seconds_count{${sent},messaging_operation_type="send"}`
    )).toBe(4)
  }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer())), Effect.provide(Logger.remove(Logger.defaultLogger)))
})

it.scoped("gauges say what is so now: in hand, how old, how far behind, and nothing when the bus has ended", () => {
  const orders = topicOf()
  const group = metricsOf(orders.name, "ages")
  return Effect.gen(function*() {
    const gate = yield* Deferred.make<void>()
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(orders, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(orders, [placed("a", 1), placed("a", 2), placed("a", 3), placed("b", 4)])
      yield* TestClock.adjust("90 seconds")
      // Without anybody who scrapes: the interval has passed.
      expect(
        Array.from(yield* Metric.snapshot).some(({ metricKey, metricState }) =>
          metricKey.name === "memory_eventbus_actor_pool_oldest_in_flight_seconds" &&
          "value" in metricState && metricState.value === 90
        )
      ).toBe(true)
      yield* TestClock.adjust("5 seconds")
      expect(yield* group).toMatchObject({
        oldest_in_flight_seconds: 95,
        watermark_lag: 4,
        watermark_age_seconds: 95,
        consumer_lag: 4,
        actors: 2,
        inbox_utilization: 0.3,
        "in_flight{state=\"running\"}": 2,
        "in_flight{state=\"queued\"}": 2
      })
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.yieldNow().pipe(
        Effect.repeat({ until: () => Effect.map(subscription.stats, ({ handled }) => handled === 4), times: 10_000 })
      )
      expect(yield* group).toMatchObject({ oldest_in_flight_seconds: 0, watermark_lag: 0, consumer_lag: 0 })
      yield* TestClock.adjust("10 minutes")
      expect(yield* group).toMatchObject({ actors: 0, actors_ended_total: 2, partitions_assigned: 1 })
    }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer({ clientId: "ages" }), { mailboxCapacity: 10 })))
    expect(yield* group).toMatchObject({ actors: 0, partitions_assigned: 0, consumer_lag: 0, actors_ended_total: 2 })
  })
})

it.live("whoever reads Effect's metrics sees all that was counted, without a sample before", () => {
  const orders = topicOf()
  const read = (name: string) =>
    Metric.unsafeSnapshot().flatMap(({ metricKey, metricState }) =>
      metricKey.name.endsWith(name) &&
        Array.from(metricKey.tags).some(({ value }) => value === orders.name) &&
        "count" in metricState && typeof metricState.count === "number" && metricState.count > 0
        ? [metricState.count]
        : []
    )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const subscription = yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
    for (const handled of [3, 6]) {
      yield* bus.publishAll(orders, [1, 2, 3].map((n) => placed(`a-${n}`, n)))
      yield* eventually("all is handled", () => Effect.map(subscription.stats, (stats) => stats.handled === handled))
      for (const name of ["messages_received_total", "messages_processed_total"]) expect(read(name)).toEqual([handled])
      for (const name of ["message_wait_seconds", "message_handling_seconds", "message_latency_seconds"]) {
        expect(read(name)).toEqual([handled])
      }
      for (const name of ["consumed.messages", "process.duration"]) expect(read(name)).toEqual([handled])
    }
  }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer({ clientId: "pulled" }))))
})

it.live("two buses of one process never share a series, whether they share the layer or have one each", () => {
  const orders = topicOf()
  const shared = Metrics.layer({ clientId: "twin", clientIdInName: true })
  const use = Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(orders, placed("a", 1)))
  const names = Effect.map(
    Prometheus.format(),
    (text) =>
      Array.from(values(text, `topic="${orders.name}"`)).filter(([name]) => name.includes("messages_sent_total"))
  )
  return Effect.gen(function*() {
    const first = yield* Layer.build(busWith(shared))
    // As `a.b` and `a-b` are one name to Prometheus.
    const second = yield* Layer.build(busWith(Metrics.layer({ clientId: "twin", clientIdInName: true })))
    yield* Effect.provide(use, first)
    yield* Effect.provide(Effect.zipRight(use, use), second)
    expect(yield* names).toEqual([
      [`memory_eventbus_twin_actor_pool_messages_sent_total{transport="memory",topic="${orders.name}"}`, 1],
      [`memory_eventbus_twin_2_actor_pool_messages_sent_total{transport="memory",topic="${orders.name}"}`, 2]
    ])
    const observer = yield* Layer.build(Metrics.layer({ clientId: "one layer" }))
    const third = yield* Layer.build(busWith(Layer.succeedContext(observer)))
    const fourth = yield* Layer.build(busWith(Layer.succeedContext(observer)))
    yield* Effect.provide(use, third)
    yield* Effect.provide(Effect.zipRight(use, use), fourth)
    const sent = (clientId: string) =>
      Effect.map(metricsOf(orders.name, clientId), (found) => found["messages_sent_total"])
    expect([yield* sent("one layer"), yield* sent("one layer-2")]).toEqual([1, 2])
  }).pipe(Effect.scoped)
})

it.live("a client id in the name is fit for Prometheus", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.publish(orders, placed("a", 1))
    expect(yield* Prometheus.format({ startsWith: "memory_eventbus_my_shop_1_" })).toContain(
      `memory_eventbus_my_shop_1_actor_pool_messages_sent_total{transport="memory",topic="${orders.name}"} 1\n`
    )
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "my.shop-1", clientIdInName: true, conventions: false }))))
})

it.live("messages at a bound are counted, with the time that they waited", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop, concurrency: 1 })
    yield* bus.publishAll(orders, [placed("a", 1), placed("b", 2)])
    const metrics = metricsOf(orders.name, "bounds")
    const bound = (name: string) => Effect.map(metrics, (found) => found[`${name}{bound="concurrency"}`] ?? 0)
    yield* eventually("it waits", () => Effect.map(bound("bound_paused_seconds_total"), (seconds) => seconds > 0.05))
    expect(yield* bound("bounds_reached_total")).toBe(1)
    yield* Deferred.succeed(gate, undefined)
    const retried = Effect.map(metrics, (found) => [found["retries_total"], found["message_handling_seconds_count"]])
    yield* eventually(
      "all is handled",
      () => Effect.map(metrics, (found) => found[`messages_processed_total{outcome="handled"}`] === 2)
    )
    // Waiting for a permit is no attempt.
    expect(yield* retried).toEqual([0, 2])
    const before = yield* bound("bound_paused_seconds_total")
    yield* Effect.sleep(20)
    expect(yield* bound("bound_paused_seconds_total")).toBe(before)
  }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer({ clientId: "bounds" }))))
})

it.live("publishing that fails is counted, and its time with it", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* Effect.flip(bus.publish(orders, placed("a".repeat(250), 1)))
    expect(yield* metricsOf(orders.name, "failing")).toMatchObject({
      messages_sent_total: 0,
      publish_failures_total: 1,
      publish_latency_seconds_count: 1
    })
    const failed = values(yield* Prometheus.format(), `messaging_destination_name="${orders.name}"`)
    expect(
      Array.from(failed).filter(([name, value]) => name.includes("error_type") && value === 1).map(([name]) =>
        name.split("{")[0]
      )
    ).toEqual(expect.arrayContaining(["messaging_client_sent_messages_total"]))
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "failing" }), {}, { maxMessageBytes: 100 })))
})

it("more topics than can be told apart are counted together, and a pattern's topics as one", () => {
  const made: Array<string> = []
  const metrics = new BusMetrics(
    {
      transport: "nats",
      own: ({ name }, labels) => {
        made.push(`${name} ${labels["topic"]} ${labels["group"]}`)
        return () => {}
      },
      convention: undefined
    },
    { transport: "nats", strategy: "actor-per-aggregate", subscriptions: () => [], starting: () => [] },
    undefined,
    () => 0
  )
  for (let i = 0; i < 2_000; i++) {
    metrics.event({ _tag: "Published", topic: `orders.${i}`, succeeded: 1, failed: 0, duration: 1 })
  }
  expect(made.filter((one) => one.startsWith("messages_sent_total"))).toHaveLength(501)
  expect(made).toContain("messages_sent_total _OTHER undefined")
  for (let i = 0; i < 2_000; i++) {
    metrics.transition(
      {
        subscription: "orders.*/a/b",
        topic: `orders.${i}`,
        group: "a/b",
        partition: 0,
        state: "queued",
        takenAt: 0,
        since: 0,
        maybeDuplicate: false
      } as Observer.FlightView,
      undefined,
      0
    )
  }
  expect(made.filter((one) => one.startsWith("messages_received_total"))).toEqual([
    "messages_received_total orders.* a/b"
  ])
  for (let i = 0; i < 2_000; i++) {
    metrics.event({ _tag: "Assigned", topic: "orders", group: `user-${i}`, partition: 0, epoch: 1 })
  }
  expect(made.filter((one) => one.startsWith("messages_received_total"))).toHaveLength(501)
  expect(made).toContain("messages_received_total _OTHER _OTHER")
})

it.effect("a subscription that can't say how it stands, or does not answer, keeps no other from it, and is named once in the log", () =>
  Effect.gen(function*() {
    const lines: Array<unknown> = []
    const gauges: Record<string, number> = {}
    const client = {
      transport: "own",
      own: ({ name }: { readonly name: string }, labels: Readonly<Record<string, string>>) => (value: number) => {
        gauges[`${name} ${labels["topic"]}`] = value
      },
      convention: undefined
    }
    const subscription = (topic: string, status: Effect.Effect<undefined>) => ({
      topic,
      group: "group",
      failures: Stream.empty,
      close: Effect.succeed({ unfinished: 0, lost: 0 }),
      stats: Effect.succeed({ actors: 7, endedActors: 0, held: 0, fullestMailbox: 0 } as Subscription.Stats),
      status,
      control: { paused: Effect.succeed(Option.none()) } as Control.Control,
      isInRecoveryMode: Effect.succeed(false),
      setRecoveryMode: () => Effect.void,
      recoveryChanges: Stream.empty
    })
    const bus = {
      transport: "own",
      strategy: "actor-per-aggregate",
      subscriptions: () => [
        subscription("a", Effect.die(new TypeError("secret"))),
        subscription("b", Effect.succeed(undefined)),
        subscription("c", Effect.never)
      ],
      starting: () => []
    }
    const metrics = new BusMetrics(client, bus, undefined, () => 0)
    const sampled = yield* Effect.repeatN(metrics.sample, 2).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(message)))),
      Effect.fork
    )
    for (let i = 0; i < 5; i++) yield* TestClock.adjust("1 second")
    yield* Fiber.join(sampled)
    expect(gauges["actors b"]).toBe(7)
    expect(lines).toEqual([
      ["Subscription a/group can't say how it stands, so its gauges are 0 (TypeError)"],
      ["Subscription c/group can't say how it stands, so its gauges are 0 (TimeoutException)"]
    ])
  }))

it("connections that come and go are counted, and rebalances, take-overs and lost leases", () => {
  const counts: Record<string, number> = {}
  const connection = new ConnectionMetrics({
    transport: "kafka",
    own: ({ name, type }) => (value) => {
      counts[name] = type === "gauge" ? value : (counts[name] ?? 0) + value
    },
    convention: undefined
  })
  const tell = (...tags: ReadonlyArray<"Connected" | "Degraded" | "Disconnected">) =>
    tags.forEach((_tag) => connection.tell({ _tag, transport: "kafka" }))
  tell("Disconnected", "Connected")
  expect(counts).toEqual({ connected: 1 })
  tell("Degraded")
  expect(counts).toEqual({ connected: 0.5 })
  tell("Disconnected", "Degraded", "Connected")
  expect(counts).toEqual({ connected: 1, disconnects_total: 1, reconnects_total: 1 })
  for (const _tag of ["Rebalanced", "TakenOver", "LeaseLost", "Rebalanced"] as const) {
    connection.tell({ _tag, transport: "kafka", topic: "orders", group: "group" })
  }
  expect(counts).toMatchObject({ rebalances_total: 2, take_overs_total: 1, lease_losses_total: 1 })
})

it("two transports of one name are connected in part while one of them is, and what has ended counts no more", () => {
  const counts: Record<string, number> = {}
  const connection = new ConnectionMetrics({
    transport: "kafka",
    own: ({ name, type }) => (value) => {
      counts[name] = type === "gauge" ? value : (counts[name] ?? 0) + value
    },
    convention: undefined
  })
  const tell = (_tag: "Connected" | "Disconnected", number: number, isClosed?: true) => {
    connection.tell({ _tag, transport: "kafka", connection: number, isClosed })
    return counts["connected"]
  }
  expect(tell("Connected", 1)).toBe(1)
  expect(tell("Connected", 2)).toBe(1)
  expect(tell("Disconnected", 1)).toBe(0.5)
  expect(tell("Connected", 1)).toBe(1)
  expect(counts).toMatchObject({ disconnects_total: 1, reconnects_total: 1 })
  expect(tell("Disconnected", 2, true)).toBe(1)
  expect(tell("Connected", 3)).toBe(1)
  expect(tell("Disconnected", 1)).toBe(0.5)
  expect(tell("Disconnected", 3, true)).toBe(0)
  expect(tell("Disconnected", 1, true)).toBe(0)
  expect(counts).toEqual({ connected: 0, disconnects_total: 4, reconnects_total: 1 })
})

it.scoped("the transport in memory is connected as long as it is there", () => {
  const connected = () =>
    Metric.unsafeSnapshot().flatMap(({ metricKey, metricState }) =>
      metricKey.name === "memory_eventbus_ended_actor_pool_connected" && "value" in metricState
        ? [metricState.value]
        : []
    )
  return Effect.gen(function*() {
    yield* Effect.provide(
      Effect.sync(() => expect(connected()).toEqual([1])),
      busWith(Metrics.layer({ clientId: "ended", clientIdInName: true }))
    )
    expect(connected()).toEqual([0])
  })
})

it.live("with checkOrder handlers that start out of order are counted", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
    yield* bus.publish(orders, placed("a", 1))
    yield* eventually(
      "it is handled",
      () =>
        Effect.map(
          metricsOf(orders.name, "order"),
          (found) => found[`messages_processed_total{outcome="handled"}`] === 1
        )
    )
    expect(yield* metricsOf(orders.name, "order")).toMatchObject({ order_violations_total: 0 })
  }).pipe(Effect.scoped, Effect.provide(busWith(Metrics.layer({ clientId: "order", checkOrder: true }))))
})

it.scoped("what is published and not confirmed is the publisher's backlog, with its age", () => {
  const orders = topicOf()
  const backlog = Effect.map(metricsOf(orders.name, "backlog"), (found) => [
    found["publisher_backlog"],
    found["publisher_backlog_seconds"]
  ])
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    // No group has settled what is there, so there is no room.
    yield* bus.subscribe(orders, () => Effect.never, { onExhausted: FailurePolicy.drop })
    yield* bus.publishAll(orders, [placed("a", 1), placed("a", 2)])
    expect(yield* backlog).toEqual([0, 0])
    const waiting = yield* Effect.fork(bus.publishAll(orders, [placed("a", 3), placed("a", 4), placed("a", 5)]))
    yield* Effect.yieldNow()
    yield* TestClock.adjust("4 seconds")
    expect(yield* backlog).toEqual([3, 4])
    yield* Fiber.interrupt(waiting)
    expect(yield* backlog).toEqual([0, 0])
  }).pipe(Effect.provide(busWith(Metrics.layer({ clientId: "backlog" }), { closeDeadline: 0 }, { maxMessages: 2 })))
})
