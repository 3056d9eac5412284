/**
 * Random numbers from a seed: the same seed gives the same numbers, on every machine, so that a run can be repeated.
 *
 * @since 0.1.0
 */

/**
 * A source of numbers that look random and depend on a seed alone.
 *
 * @since 0.1.0
 * @category models
 */
export interface Prng {
  /** The next number in `[0, 1)`. */
  readonly next: () => number
  /** A whole number in `[0, below)`. */
  readonly integer: (below: number) => number
  /** `true` with this probability. At 0 no number is drawn. */
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(from: ReadonlyArray<A>) => A
}

/**
 * A generator (mulberry32: small, quick, good enough for tests, and not for secrets).
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (seed: number): Prng => {
  let state = seed | 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  const integer = (below: number) => Math.floor(next() * below)
  return {
    next,
    integer,
    chance: (probability) => probability > 0 && next() < probability,
    pick: (from) => from[integer(from.length)]!
  }
}
