/** Whether this process takes no partitions for a while: an operator's word, for all of its subscriptions. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Leases } from "./Leases.js"

/** How often it is looked at whether all was given back, in milliseconds. */
const check = 20

type Taker = Pick<Leases, "stepAside" | "size">

export class Aside {
  private isAside = false
  private readonly takers = new Set<Taker>()

  /** A subscription that takes partitions, as long as the scope is open. */
  join(taker: Taker): Effect.Effect<void, never, Scope.Scope> {
    return Effect.zipRight(
      Effect.suspend(() => this.isAside ? taker.stepAside(true) : Effect.void),
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => this.takers.add(taker)),
        () => Effect.sync(() => this.takers.delete(taker))
      ))
    )
  }

  /** Ends when all was given back. */
  readonly stepDown: Effect.Effect<void> = Effect.suspend(() => this.tell(true)).pipe(
    Effect.zipRight(Effect.repeat(
      Effect.delay(Effect.sync(() => !this.isAside || Array.from(this.takers).every(({ size }) => size === 0)), check),
      { until: (isDone) => isDone }
    )),
    Effect.asVoid
  )

  readonly stepUp: Effect.Effect<void> = Effect.suspend(() => this.tell(false))

  readonly isSteppedDown: Effect.Effect<boolean> = Effect.sync(() => this.isAside)

  private tell(isAside: boolean): Effect.Effect<void> {
    this.isAside = isAside
    return Effect.forEach(Array.from(this.takers), (taker) => taker.stepAside(isAside), {
      concurrency: "unbounded",
      discard: true
    })
  }
}
