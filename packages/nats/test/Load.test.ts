import * as Processors from "@effect-eventbus/brokers/Processors"
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, Layer, Schema } from "effect"
import { inject } from "vitest"
import { NatsTransport } from "../src/index.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")

const Tick = Schema.Struct({ n: Schema.Int, at: Schema.Number })

const perSecond = 4_000
const seconds = 8
/**
 * The code is compiled while it runs, which for the first 16,000 envelopes takes more of the processor than they do.
 * Latencies and processor time count from here on, order and completeness from the start.
 */
const warmUp = 4
const aggregates = 200

describe("Load", () => {
  it(`${perSecond} envelopes a second, from publishing to the handler, complete and in order`, () =>
    T.run(
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.envelope(T.topic().name, Tick, { eventType: () => "Tick" })
        const latencies: Array<number> = []
        const last = new Map<string, number>()
        let disorder = 0
        let handled = 0
        let start = Number.POSITIVE_INFINITY
        yield* bus.subscribe(
          topic,
          ({ at, n }, { envelope }) =>
            Effect.sync(() => {
              handled++
              if (at > start + warmUp * 1_000) latencies.push(performance.now() - at)
              const before = last.get(envelope.aggregateId) ?? -1
              if (n !== before + 1) disorder++
              last.set(envelope.aggregateId, n)
            }),
          { onExhausted: FailurePolicy.drop }
        )
        const sequences = new Map<string, number>()
        start = performance.now()
        let cpu = process.cpuUsage()
        let processors = Processors.watch()
        let published = 0
        let publishedBefore: number | undefined
        let unresolved = 0
        const failures: Array<EventBus.PublishAllFailed> = []
        while (performance.now() - start < seconds * 1_000 && failures.length === 0) {
          yield* Effect.sleep("5 millis")
          if (publishedBefore === undefined && performance.now() - start > warmUp * 1_000) {
            publishedBefore = published
            cpu = process.cpuUsage()
            processors = Processors.watch()
          }
          // A machine that has no time for more publishes less, and says so below.
          if (unresolved > perSecond / 10) continue
          const due = Math.min(published + perSecond / 10, Math.floor((performance.now() - start) * perSecond / 1_000))
          const messages = T.range(published, due).map((i) => {
            const aggregateId = `order-${i % aggregates}`
            const n = sequences.get(aggregateId) ?? 0
            sequences.set(aggregateId, n + 1)
            return { aggregateId, payload: { n, at: performance.now() } }
          })
          unresolved += due - published
          published = due
          yield* bus.publishAll(topic, messages).pipe(
            Effect.match({
              onFailure: (failure) => failures.push(failure),
              onSuccess: () => {
                unresolved -= messages.length
              }
            }),
            Effect.forkScoped
          )
        }
        const rate = published / seconds
        const use = processors()
        yield* T.waitUntil("all are handled", () => handled === published || failures.length > 0)
        assert.deepStrictEqual(failures.map(({ message }) => message), [])
        const used = process.cpuUsage(cpu)
        const sorted = T.ascending(latencies)
        const at = (share: number) => sorted[Math.floor(sorted.length * share)]!
        console.log(
          `${Math.round(rate)} envelopes/s for ${seconds} s: p50 ${at(0.5).toFixed(1)} ms, ` +
            `p99 ${at(0.99).toFixed(1)} ms, highest ${at(0.9999).toFixed(1)} ms; ` +
            `${
              Math.round((used.user + used.system) / (published - publishedBefore!))
            } µs of this process's CPU for each; ${Processors.describe(use)}`
        )
        assert.strictEqual(disorder, 0)
        // A machine that others keep busy, or whose host takes its processors away, says nothing about us: then the 99th
        // percentile is how long it stood still. Alone on two processors, this test and its server leave 70 % of them idle (p99 3.6 ms);
        // beside another test file they left 55 % (11.7 ms).
        const isQuiet = use !== undefined && use.idle > 0.65 && use.stolen < 0.005
        if (isQuiet) assert.isBelow(at(0.99), 10)
        // However long it has to wait for a processor, it needs little of it. It was 59 µs on a machine without an idle moment.
        assert.isBelow((used.user + used.system) / (published - publishedBefore!), 250)
        // Nothing waits for long without a reason: what is published is handled before much more of it is.
        assert.isBelow(at(0.5), 2_000)
        if (rate > perSecond * 0.98) assert.isBelow(at(0.5), 250)
      }).pipe(Effect.provide(EventBus.layer.pipe(Layer.provide(NatsTransport.layer({ servers })))))
    ))
})
