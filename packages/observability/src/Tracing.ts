/**
 * Spans of publishing and handling, and their context in the headers of messages, by OpenTelemetry's conventions for messaging and by
 * W3C. They are made by the `Tracer` of the fiber that publishes or handles: `@effect/opentelemetry` has one. Without one nothing is
 * traced.
 *
 * @since 0.1.0
 */
import * as Observer from "@effect-eventbus/core/Observer"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { ConsumerSpans } from "./internal/ConsumerSpans.js"
import { conventionsVersion as version } from "./internal/Instruments.js"
import { ProducerSpans } from "./internal/ProducerSpans.js"

/**
 * The version of OpenTelemetry's semantic conventions that the spans follow.
 *
 * @since 0.1.0
 * @category models
 */
export const conventionsVersion: string = version

/**
 * What can be set for traces.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * What a consumer's spans are to the producer's: `"link"` begins a trace of their own, which is linked to the producer's; `"child"`
   * goes on in the producer's trace. Default: `"link"`.
   */
  readonly relation?: "link" | "child" | undefined
  /** Whether the wait from taking a message to the start of its handler is a span of its own, `receive`. Default: true. */
  readonly receiveSpans?: boolean | undefined
  /** Whether each message of `publishAll` has a span of its own, `create`. Without them all have the context of the call. Default: true. */
  readonly createSpans?: boolean | undefined
  /**
   * Whether a message whose producer was not sampled is not traced here, either. That costs next to nothing. Otherwise the
   * application's sampler is asked for each message. Default: true.
   */
  readonly followSampling?: boolean | undefined
}

/**
 * An observer that traces the buses above it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Observer.Service => {
  const { createSpans = true, followSampling = true, receiveSpans = true, relation = "link" } = options
  return {
    forBus: ({ transport }) =>
      Effect.sync(() => {
        const { event, spanOf, transition } = new ConsumerSpans(transport, { followSampling, receiveSpans, relation })
        const { onPublish } = new ProducerSpans(transport, createSpans)
        return { event, onPublish, spanOf, transition }
      })
  }
}

/**
 * Traces the bus that it is provided to: `EventBus.layer.pipe(Layer.provide(transport), Layer.provide(Tracing.layer()))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Observer.Observer> => Observer.layer(make(options))
