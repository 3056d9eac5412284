import type * as Fiber from "effect/Fiber"
import type * as FiberRefs from "effect/FiberRefs"

/**
 * The FiberRefs of a fiber as they stand now. Setting any FiberRef replaces this object, so two looks can be compared. The public
 * `getFiberRefs` copies all FiberRefs at each call, which would be a tenth of what a message costs. If a version of Effect lacks the
 * private field, each attempt counts as one that has set something.
 *
 * @internal
 */
export const refsOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): FiberRefs.FiberRefs =>
  (fiber as unknown as { readonly _fiberRefs?: FiberRefs.FiberRefs })._fiberRefs ?? fiber.getFiberRefs()
