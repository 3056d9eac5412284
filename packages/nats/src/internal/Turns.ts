/** One after the other, in the order in which they came. Who gives up waiting passes its turn on when it comes. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { bounded } from "./Bounded.js"

class Turn {
  private isOver = false
  private readonly followers: Array<() => void> = []

  end(): void {
    this.isOver = true
    for (const follower of this.followers) follower()
  }

  whenOver(follower: () => void): void {
    if (this.isOver) follower()
    else this.followers.push(follower)
  }
}

export class Turns<K> {
  private readonly last = new Map<K, Turn>()

  /** Undefined where the turn did not come within so many milliseconds: then the effect has not begun. */
  take<A, E>(key: K, millis: number, effect: Effect.Effect<A, E>): Effect.Effect<A | undefined, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const before = this.last.get(key)
        const own = new Turn()
        this.last.set(key, own)
        const over = Effect.sync(() => {
          const end = () => {
            if (this.last.get(key) === own) this.last.delete(key)
            own.end()
          }
          if (before === undefined) end()
          else before.whenOver(end)
        })
        if (before === undefined) return Effect.ensuring(restore(effect), over)
        const itsTurn = Effect.async<void>((resume) => before.whenOver(() => resume(Effect.void)))
        return restore(bounded(itsTurn, millis)).pipe(
          Effect.flatMap((begun) => Option.isNone(begun) ? Effect.succeed(undefined) : restore(effect)),
          Effect.ensuring(over)
        )
      })
    )
  }
}
