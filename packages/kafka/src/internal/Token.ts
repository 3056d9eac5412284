/**
 * Tokens that say who we are. One serves all links for most of its lifetime; the
 * provider is asked by one at a time, and nobody waits for it longer than for a broker.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { BearerToken } from "../KafkaConfig.js"
import type { Token } from "./Driver.js"
import { disconnected, type KafkaFailure } from "./Failure.js"
import { monotonic } from "./monotonic.js"

export interface Tokens {
  readonly get: Effect.Effect<Token, KafkaFailure>
  /** The broker has refused it: the next one is asked for. */
  readonly renew: () => void
}

/** As Java's client: enough is left for a provider that is away for a while. */
const USED_OF_LIFETIME = 0.8

export const make = (
  provider: Effect.Effect<BearerToken, unknown>,
  withinMs: number
): Effect.Effect<Tokens> =>
  Effect.gen(function*() {
    const clock = yield* Clock.clockWith(Effect.succeed)
    const now = monotonic(clock)
    const alone = yield* Effect.makeSemaphore(1)
    let known: { readonly token: Token; readonly until: number } | undefined

    const ask = provider.pipe(
      Effect.timeoutFail({
        duration: withinMs,
        onTimeout: () => new Error(`it has not answered within ${withinMs} ms`)
      }),
      Effect.sandbox,
      Effect.mapError((cause) => disconnected(new Error("There is no token to authenticate with", { cause }), false)),
      Effect.map(({ expiresAt, extensions = {}, value }) => {
        const token: Token = { value: Redacted.value(value), extensions }
        // Its lifetime is counted from now on, whoever sets the clock.
        const lifetime = expiresAt === undefined ? 0 : expiresAt - clock.unsafeCurrentTimeMillis()
        known = { token, until: now() + lifetime * USED_OF_LIFETIME }
        return token
      })
    )

    return {
      get: alone.withPermits(1)(
        Effect.suspend(() => known !== undefined && now() < known.until ? Effect.succeed(known.token) : ask)
      ),
      renew: () => {
        known = undefined
      }
    }
  })
