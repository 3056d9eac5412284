import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** Effect's own, which nobody sends anywhere. */
const native = Context.get(DefaultServices.liveServices as Context.Context<Tracer.Tracer>, Tracer.Tracer)

/**
 * The tracer of the fiber that runs now, with its present span and the time.
 *
 * @internal
 */
export interface Current {
  readonly tracer: Tracer.Tracer
  readonly parent: Tracer.AnySpan | undefined
  /** Nanoseconds since the epoch. */
  readonly now: bigint
}

/**
 * Undefined: nobody looks at spans here.
 *
 * @internal
 */
export const current = (): Current | undefined => {
  const fiber = Option.getOrUndefined(Fiber.getCurrentFiber())
  if (fiber === undefined || fiber.currentTracer === native) return undefined
  if (!fiber.getFiberRef(FiberRef.currentTracerEnabled)) return undefined
  return { tracer: fiber.currentTracer, parent: propagated(fiber.currentSpan), now: timeOf(fiber) }
}

/**
 * Nanoseconds since the epoch, by the clock of the fiber that runs now. `otherwise`, in milliseconds, is the time where none runs.
 *
 * @internal
 */
export const now = (otherwise: number): bigint => {
  const fiber = Option.getOrUndefined(Fiber.getCurrentFiber())
  return fiber === undefined ? nanos(otherwise) : timeOf(fiber)
}

/**
 * Milliseconds as nanoseconds.
 *
 * @internal
 */
export const nanos = (millis: number): bigint => BigInt(Math.round(millis * 1000)) * 1000n

const timeOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): bigint =>
  Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeNanos()

/** The next span around that may be seen by others. */
const propagated = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let one = span
  while (one !== undefined && Context.get(one.context, Tracer.DisablePropagation)) {
    one = one._tag === "Span" ? Option.getOrUndefined(one.parent) : undefined
  }
  return one
}
