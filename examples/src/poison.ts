// A message that ends the process is given up in the third life: the example of docs/poison.md.
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Schema } from "effect"

class ReportAsked extends Schema.TaggedClass<ReportAsked>()("ReportAsked", { rows: Schema.Number }) {}

const Reports = Topic.envelope("reports", ReportAsked)

// Ten billion rows have no room in memory: the process ends, and nothing is thrown.
const render = (rows: number) =>
  Effect.sync(() => {
    const lines: Array<string> = []
    for (let row = 0; row < rows; row++) lines.push(`row ${row} of the report`)
    return lines.join("\n")
  })

const Program = Reports.toLayer(({ rows }) => render(rows), {
  onExhausted: FailurePolicy.deadLetter("reports.dead"),
  poison: { lives: 3, probation: "30 seconds" }
})

Program.pipe(
  Layer.provide(EventBus.layer),
  Layer.provide(KafkaTransport.layer({ brokers: ["localhost:9092"] })),
  Layer.launch,
  NodeRuntime.runMain
)
