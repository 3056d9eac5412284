/** Whether this process takes no partitions for a while: an operator's word, for all of its subscriptions. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StepDownReport } from "../NatsInstance.js"
import { bounded } from "./Bounded.js"
import type { Leases } from "./Leases.js"

/** How often it is looked at whether all was given back, in milliseconds. */
const check = 20

type Taker = Pick<Leases, "stepAside" | "size">

/** A partition that was given back shows that others will be, too. So long, in milliseconds, none may be. */
const least = 1_000

export class Aside {
  private isAside = false
  /** Each with the time, in milliseconds, within which it gives back a partition. */
  private readonly takers = new Map<Taker, number>()

  /** A subscription that takes partitions, as long as the scope is open. */
  join(taker: Taker, within: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.zipRight(
      Effect.suspend(() => this.isAside ? taker.stepAside(true) : Effect.void),
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => this.takers.set(taker, within)),
        () => Effect.sync(() => this.takers.delete(taker))
      ))
    )
  }

  /** Ends when all was given back, or nothing is any more, for want of room in the bucket for example. Then it still goes on. */
  readonly stepDown: Effect.Effect<StepDownReport> = Effect.suspend(() =>
    Effect.zipRight(bounded(this.tell(true), this.patience), this.untilGivenBack(this.left, performance.now()))
  ).pipe(
    Effect.tap(({ left }) =>
      left === 0 ? Effect.void : Effect.logWarning(
        "This instance was told to step down and has not given back all partitions: it goes on with what is left until it can"
      ).pipe(Effect.annotateLogs("left", left))
    )
  )

  private untilGivenBack(left: number, since: number): Effect.Effect<StepDownReport> {
    return Effect.suspend(() => {
      const now = this.left
      if (!this.isAside || now === 0) return Effect.succeed({ left: 0 })
      const isLess = now < left
      if (!isLess && performance.now() - since > this.patience) return Effect.succeed({ left: now })
      return Effect.delay(this.untilGivenBack(now, isLess ? performance.now() : since), check)
    })
  }

  private get left(): number {
    let left = 0
    for (const { size } of this.takers.keys()) left += size
    return left
  }

  private get patience(): number {
    return Math.max(least, ...this.takers.values())
  }

  readonly stepUp: Effect.Effect<void> = Effect.suspend(() => this.tell(false))

  readonly isSteppedDown: Effect.Effect<boolean> = Effect.sync(() => this.isAside)

  private tell(isAside: boolean): Effect.Effect<void> {
    this.isAside = isAside
    return Effect.forEach(Array.from(this.takers.keys()), (taker) => taker.stepAside(isAside), {
      concurrency: "unbounded",
      discard: true
    })
  }
}
