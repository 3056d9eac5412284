import type * as Either from "effect/Either"

/**
 * One setting: `A` is its value, `I` what may be given for it in code, and `D` its default.
 *
 * @internal
 */
export interface Key<out A, in I = A, out D = A | undefined> {
  /** The value of the texts that a source of the configuration has: several for a list, one otherwise. */
  readonly decode: (texts: ReadonlyArray<string>) => Either.Either<A, string>
  /** What is wrong with a value that is given in code; `undefined` where nothing is. */
  readonly expected: (value: unknown) => string | undefined
  /** The value of what was given in code and found right. */
  readonly from: (value: I) => A
  /** What a value has to be, in words. */
  readonly wanted: string
  readonly type: string
  readonly isList: boolean
  /** The words to choose from, where there are some. */
  readonly words: ReadonlyArray<string> | undefined
  /** The default as the docs show it; `undefined` where there is none. */
  readonly default: string | undefined
  /** The default as a value; `undefined` where the list has none, or says it only in words. */
  readonly value: D
  readonly description: string
}

/**
 * Settings by their dotted path below `eventbus`.
 *
 * @internal
 */
export interface Spec {
  readonly [path: string]: Key<unknown, never, unknown>
}
