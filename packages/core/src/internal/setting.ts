import type * as Either from "effect/Either"

/**
 * One setting: `A` is its value, `I` what may be given for it in code, and `D` its default.
 *
 * @internal
 */
export interface Key<out A, in I = A, out D = A | undefined> {
  /** Makes the value from the texts of the configuration: several for a list, one for everything else. */
  readonly decode: (texts: ReadonlyArray<string>) => Either.Either<A, string>
  /** Says what is wrong with a value that was given in code; `undefined` if it is right. */
  readonly expected: (value: unknown) => string | undefined
  /** Makes the value from a right one that was given in code. */
  readonly from: (value: I) => A
  /** Says in words what a value has to be. */
  readonly wanted: string
  readonly type: string
  readonly isList: boolean
  /** The words to choose from, where there are some. */
  readonly words: ReadonlyArray<string> | undefined
  /** The default as the docs show it; `undefined` where there is none. */
  readonly default: string | undefined
  /** The default as a value; `undefined` if there is none, or if it is described in words only. */
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
