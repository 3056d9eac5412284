import type * as Fiber from "effect/Fiber"
import type * as FiberRefs from "effect/FiberRefs"
import type * as RuntimeFlags from "effect/RuntimeFlags"

/**
 * The FiberRefs of a fiber as they stand now. Setting any FiberRef replaces this object, so two looks can be compared. The public
 * `getFiberRefs` copies all FiberRefs at each call, which would be a tenth of what a message costs. If a version of Effect lacks the
 * private field, each attempt counts as one that has set something.
 *
 * @internal
 */
export const refsOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): FiberRefs.FiberRefs =>
  (fiber as unknown as { readonly _fiberRefs?: FiberRefs.FiberRefs })._fiberRefs ?? fiber.getFiberRefs()

/**
 * The runtime flags of a fiber as they stand now. The public `runtimeFlags` is an effect. If a version of Effect lacks the private
 * field, the answer is what is expected: a handler's change stays then.
 *
 * @internal
 */
export const flagsOf = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  expected: RuntimeFlags.RuntimeFlags
): RuntimeFlags.RuntimeFlags =>
  (fiber as unknown as { readonly currentRuntimeFlags?: RuntimeFlags.RuntimeFlags }).currentRuntimeFlags ?? expected
