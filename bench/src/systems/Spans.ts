/** A tracer as applications have it, whose spans go nowhere. */
import { NodeSdk } from "@effect/opentelemetry"
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler
} from "@opentelemetry/sdk-trace-base"
import type * as Layer from "effect/Layer"

const nowhere: SpanExporter = {
  export: (_, done) => done({ code: 0 }),
  shutdown: () => Promise.resolve()
}

/** `ratio` of the traces are sampled. */
export const tracer = (ratio: number): Layer.Layer<never> =>
  NodeSdk.layer(() => ({
    resource: { serviceName: "bench" },
    spanProcessor: new BatchSpanProcessor(nowhere),
    tracerConfig: { sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }) }
  })) as unknown as Layer.Layer<never>
