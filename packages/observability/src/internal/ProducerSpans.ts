import type { Observer, Topic } from "@effect-eventbus/core"
import * as Headers from "@effect-eventbus/core/Headers"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Causes from "./Causes.js"
import * as TraceContext from "./TraceContext.js"
import * as Tracers from "./Tracers.js"

type Message = Observer.PublishRequest["messages"][number]

/**
 * The spans of publishing: `publish`, and for each message of a batch `create`. Their context goes into the headers.
 *
 * @internal
 */
export class ProducerSpans {
  constructor(private readonly transport: string, private readonly createSpans: boolean) {}

  readonly onPublish = (request: Observer.PublishRequest): Observer.Publishing | undefined => {
    const current = Tracers.current()
    if (current === undefined || request.messages.length === 0) return undefined
    return request.operation === "publish" && request.messages.length > 1
      ? this.batch(request, current)
      : this.single(request, current)
  }

  private single(
    { messages, operation, topic }: Observer.PublishRequest,
    current: Tracers.Current
  ): Observer.Publishing {
    const message = messages[0]!
    const parent = current.parent ?? TraceContext.ofTraceId(traceIdOf(message))
    const span = this.span(operation === "encode" ? "create" : "publish", "producer", topic, current, parent)
    if (span.sampled) attributesOf(span, message)
    return {
      messages: [carrying(message, span, TraceContext.write(span))],
      ended: (exit) => this.ended(span, current.now, exit)
    }
  }

  private batch({ messages, topic }: Observer.PublishRequest, current: Tracers.Current): Observer.Publishing {
    const span = this.span("publish", this.createSpans ? "client" : "producer", topic, current, current.parent)
    if (span.sampled) span.attribute("messaging.batch.message_count", messages.length)
    // What is not sampled has no spans for its parts.
    const carriers = this.createSpans && span.sampled
      ? messages.map((message) => {
        const created = this.span("create", "producer", topic, current, current.parent ?? span)
        attributesOf(created, message)
        created.end(current.now, Exit.void)
        return created
      })
      : []
    if (carriers.length > 0) span.addLinks(carriers.map((one) => ({ _tag: "SpanLink", span: one, attributes: {} })))
    // One object for all messages that have nothing else: each would keep its own for as long as it is in hand. What can't change
    // needs no copy in a log in memory, either.
    const shared = Object.freeze(TraceContext.write(span))
    return {
      messages: messages.map((message, i) => {
        const one = carriers[i]
        return one === undefined
          ? carrying(message, span, shared)
          : carrying(message, one, TraceContext.write(one))
      }),
      ended: (exit) => this.ended(span, current.now, exit)
    }
  }

  private span(
    operation: "create" | "publish",
    kind: Tracer.SpanKind,
    topic: string,
    { now, tracer }: Tracers.Current,
    parent: Tracer.AnySpan | undefined
  ): Tracer.Span {
    const span = tracer.span(`${operation} ${topic}`, Option.fromNullable(parent), Context.empty(), [], now, kind, {
      root: parent === undefined
    })
    if (!span.sampled) return span
    span.attribute("messaging.system", this.transport)
    span.attribute("messaging.operation.name", operation)
    span.attribute("messaging.operation.type", operation === "create" ? "create" : "send")
    span.attribute("messaging.destination.name", topic)
    return span
  }

  private ended(span: Tracer.Span, began: bigint, exit: Exit.Exit<unknown, unknown>): void {
    if (span.sampled) {
      if (Exit.isFailure(exit)) span.attribute("error.type", Causes.nameOf(exit.cause))
      else {
        const { offset, partition } = exit.value as { readonly offset?: unknown; readonly partition?: unknown }
        if (typeof partition === "number") span.attribute("messaging.destination.partition.id", String(partition))
        if (typeof offset === "number") span.attribute(offsetNameOf(this.transport), offset)
      }
    }
    const now = Tracers.now(Number(began / 1_000_000n))
    span.end(now > began ? now : began, exit)
  }
}

/**
 * The attribute of a message's place, by its broker.
 *
 * @internal
 */
export const offsetNameOf = (transport: string): string =>
  transport === "kafka"
    ? "messaging.kafka.offset"
    : transport === "nats"
    ? "messaging.nats.sequence"
    : "eventbus.message.offset"

const isEnvelope = (message: Message): message is Topic.EnvelopeMessage<unknown> => "payload" in message

const traceIdOf = (message: Message): string | undefined => isEnvelope(message) ? message.traceId : undefined

const attributesOf = (span: Tracer.Span, message: Message): void => {
  if (message.aggregateId !== undefined) span.attribute("eventbus.aggregate.id", message.aggregateId)
  if (!isEnvelope(message)) return
  if (message.eventId !== undefined) span.attribute("messaging.message.id", message.eventId)
  if (message.correlationId !== undefined) span.attribute("messaging.message.conversation_id", message.correlationId)
}

/**
 * The message with a span's context. What the publisher has set stays. Field by field, because a message may be an instance of a class,
 * of which a spread would lose a part.
 */
const carrying = (message: Message, span: Tracer.AnySpan, context: Headers.Headers): Message => {
  const { headers: own } = message
  const headers = own === undefined ? context : TraceContext.has(own) ? own : Headers.merge(own, context)
  if (!isEnvelope(message)) {
    const { aggregateId, body, key } = message
    return { aggregateId, body, key, headers }
  }
  const { aggregateId, correlationId, eventId, eventType, eventVersion, payload, tenantId, timestamp } = message
  const traceId = message.traceId ?? span.traceId
  return {
    aggregateId,
    correlationId,
    eventId,
    eventType,
    eventVersion,
    payload,
    tenantId,
    timestamp,
    traceId,
    headers
  }
}
