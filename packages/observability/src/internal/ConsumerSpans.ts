import type { Observer } from "@effect-eventbus/core"
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Causes from "./Causes.js"
import { offsetNameOf } from "./ProducerSpans.js"
import * as TraceContext from "./TraceContext.js"
import * as Tracers from "./Tracers.js"

/** A message whose handling is traced. */
interface Traced {
  readonly span: Tracer.AnySpan
  /** The last attempt whose failure the span has. */
  told: number
}

/**
 * What can be set for the spans of consumers.
 *
 * @internal
 */
export interface Settings {
  readonly relation: "link" | "child"
  readonly receiveSpans: boolean
  readonly followSampling: boolean
}

/**
 * The spans of handling: `receive`, from taking a message to the start of its handler, and `process`, from there to its end. What happens
 * between is in events.
 *
 * @internal
 */
export class ConsumerSpans {
  private readonly traced = new ChurningMap<Observer.FlightView, Traced>()

  constructor(private readonly transport: string, private readonly settings: Settings) {}

  readonly spanOf = (flight: Observer.FlightView): Tracer.AnySpan | undefined =>
    this.traced.size === 0 ? undefined : this.traced.get(flight)?.span

  readonly transition = (flight: Observer.FlightView, from: Observer.State | undefined): void => {
    const { state } = flight
    if (from === "queued" && state === "running") return this.begin(flight)
    const traced = this.traced.size === 0 ? undefined : this.traced.get(flight)
    if (traced === undefined) return
    const { span } = traced
    if (state === "ended") {
      this.traced.delete(flight)
      if (span._tag === "Span") this.end(flight, traced, span)
      return
    }
    if (span._tag !== "Span" || !span.sampled) return
    const now = Tracers.now(flight.since)
    if (from === "running") this.failed(flight, traced, span, now)
    if (state === "held") span.event("eventbus.held", now, {})
    else if (state === "dead-lettering") span.event("eventbus.dead_lettering", now, {})
    else if (state === "parking") span.event("eventbus.parking", now, {})
    else if (state === "running" && from !== "dead-lettering" && from !== "parking" && flight.attempt > 0) {
      span.event("eventbus.attempt", now, { "eventbus.attempt": flight.attempt + 1 })
    }
  }

  readonly event = (event: Observer.Event): void => {
    if (event._tag !== "Restarted") return
    const { flight } = event
    const traced = this.traced.get(flight)
    if (traced?.span._tag !== "Span" || !traced.span.sampled) return
    const now = Tracers.now(flight.since)
    this.failed(flight, traced, traced.span, now)
    traced.span.event("eventbus.actor.restarted", now, { "eventbus.attempt": flight.attempt })
  }

  /** The handler's turn has come for the first time. */
  private begin(flight: Observer.FlightView): void {
    const { followSampling, receiveSpans, relation } = this.settings
    const { headers } = flight
    // Most messages are of this kind, so nothing is made for them.
    if (followSampling && relation === "link" && TraceContext.isUnsampled(headers)) return
    const current = Tracers.current()
    if (current === undefined) return
    const named = TraceContext.read(headers)
    // Other producers write the header in other letters, or as one of several values.
    const isUnsampled = followSampling && named?.sampled === false
    if (isUnsampled && relation === "link") return
    const remote = named ?? TraceContext.ofTraceId(envelopeOf(flight)?.traceId)
    if (isUnsampled) return void this.traced.set(flight, { span: named, told: 0 })
    const parent = relation === "child" ? remote : undefined
    const links: ReadonlyArray<Tracer.SpanLink> = relation === "child" || remote === undefined
      ? []
      : [{ _tag: "SpanLink", span: remote, attributes: {} }]
    const { now } = current
    const taken = Tracers.nanos(flight.takenAt)
    const received = receiveSpans
      ? this.span("receive", "client", flight, current, parent, links, taken < now ? taken : now)
      : undefined
    received?.end(now, Exit.void)
    const span = this.span("process", "consumer", flight, current, received ?? parent, links, now)
    this.traced.set(flight, { span, told: 0 })
    if (!span.sampled) return
    span.attribute("eventbus.mailbox.wait", Math.max(0, Number(now - taken) / 1e9))
    const envelope = envelopeOf(flight)
    if (envelope === undefined) return
    span.attribute("messaging.message.id", envelope.eventId)
    if (envelope.correlationId !== undefined) {
      span.attribute("messaging.message.conversation_id", envelope.correlationId)
    }
    if (envelope.traceId !== undefined && envelope.traceId !== remote?.traceId) {
      span.attribute("eventbus.trace_id", envelope.traceId)
    }
  }

  private span(
    operation: "receive" | "process",
    kind: Tracer.SpanKind,
    flight: Observer.FlightView,
    { tracer }: Tracers.Current,
    parent: Tracer.AnySpan | undefined,
    links: ReadonlyArray<Tracer.SpanLink>,
    start: bigint
  ): Tracer.Span {
    const { group, subscription, topic } = flight
    // Of patterns the pattern: a span's name has few values.
    const destination = subscription.slice(0, -group.length - 1)
    const span = tracer.span(
      `${operation} ${destination}`,
      Option.fromNullable(parent),
      Context.empty(),
      links,
      start,
      kind,
      { root: parent === undefined }
    )
    if (!span.sampled) return span
    const { aggregateId, epoch, isTombstone, maybeDuplicate, offset, partition } = flight
    span.attribute("messaging.system", this.transport)
    span.attribute("messaging.operation.name", operation)
    span.attribute("messaging.operation.type", operation)
    span.attribute("messaging.destination.name", topic)
    if (destination !== topic) span.attribute("messaging.destination.template", destination)
    span.attribute("messaging.destination.partition.id", String(partition))
    span.attribute("messaging.consumer.group.name", group)
    span.attribute(offsetNameOf(this.transport), offset)
    span.attribute("eventbus.epoch", epoch)
    if (aggregateId !== undefined) span.attribute("eventbus.aggregate.id", aggregateId)
    if (maybeDuplicate) span.attribute("eventbus.maybe_duplicate", true)
    if (isTombstone && this.transport === "kafka") span.attribute("messaging.kafka.message.tombstone", true)
    return span
  }

  /** An attempt has ended, and another one or the failure policy follows. Waiting for a permit is no attempt. */
  private failed(flight: Observer.FlightView, traced: Traced, span: Tracer.Span, now: bigint): void {
    const { attempt, lastCause } = flight
    if (attempt <= traced.told || lastCause === undefined) return
    traced.told = attempt
    span.event("messaging.process.exception", now, {
      "exception.type": Causes.nameOf(lastCause),
      "exception.message": Causes.messageOf(lastCause),
      "eventbus.attempt": attempt
    })
  }

  private end(flight: Observer.FlightView, traced: Traced, span: Tracer.Span): void {
    const { attempt, lastCause, restarts } = flight
    const outcome = flight.outcome!
    const isGivenUp = outcome === "dead-lettered" || outcome === "parked" || outcome === "dropped" ||
      outcome === "failed"
    const now = Tracers.now(flight.since)
    if (span.sampled) {
      span.attribute("eventbus.outcome", outcome)
      span.attribute("eventbus.attempts", attempt)
      if (restarts > 0) span.attribute("eventbus.restarts", restarts)
      if (isGivenUp) {
        this.failed(flight, traced, span, now)
        span.attribute("error.type", Causes.nameOf(lastCause))
      }
    }
    const { startTime } = span.status
    // The cause itself may hold values of the payload, and stacks: the events have what is safe.
    const exit = isGivenUp ? Exit.fail(new GivenUp(outcome, Causes.nameOf(lastCause))) : Exit.void
    span.end(now > startTime ? now : startTime, exit)
  }
}

/** How a message ended that was not handled, for the span's status. */
class GivenUp extends Error {
  override readonly name = "MessageGivenUp"
  constructor(outcome: string, error: string) {
    super(`${outcome}: ${error}`)
    // It is no news where this line is.
    this.stack = `${this.name}: ${this.message}`
  }
}

const envelopeOf = (flight: Observer.FlightView) => {
  const delivery = flight.delivery()
  return "envelope" in delivery ? delivery.envelope : undefined
}
