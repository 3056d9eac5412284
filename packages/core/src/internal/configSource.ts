import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as ConfigProvider from "effect/ConfigProvider"
import type * as PathPatch from "effect/ConfigProviderPathPatch"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashSet from "effect/HashSet"

/**
 * A provider that applies no naming. Paths are spelled as in its sources.
 *
 * @internal
 */
export type Flat = ConfigProvider.ConfigProvider.Flat

/**
 * A text or a list that a provider has at a path.
 *
 * @internal
 */
export interface Leaf {
  readonly path: ReadonlyArray<string>
  /** The path without the root. */
  readonly below: ReadonlyArray<string>
  readonly kind: "text" | "list" | "unreadable"
  /** The text, or at least its beginning. It is empty for a list. An empty section looks like an empty text. */
  readonly text: string
  /** The number of the provider's source that has it. A lower number overrides a higher one. */
  readonly source: number
}

/**
 * A path of the configuration, as a provider with its own naming spells it.
 *
 * @internal
 */
export const patched = (path: ReadonlyArray<string>, patch: PathPatch.PathPatch): ReadonlyArray<string> => {
  switch (patch._tag) {
    case "Empty":
      return path
    case "AndThen":
      return patched(patched(path, patch.first), patch.second)
    case "MapName":
      return path.map(patch.f)
    case "Nested":
      return [patch.name, ...path]
    case "Unnested":
      return path[0] === patch.name ? path.slice(1) : path
  }
}

const INDEX = /^\[\d+\]$/

/**
 * Everything that is set below a path. The walk goes below a name if `enter` answers `true`.
 *
 * @internal
 */
export const leaves = (
  flat: Flat,
  root: ReadonlyArray<string>,
  enter: (below: ReadonlyArray<string>) => boolean = () => true
): Effect.Effect<ReadonlyArray<Leaf>, ConfigError.ConfigError> => {
  const walk = (below: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Leaf>, ConfigError.ConfigError> =>
    Effect.gen(function*() {
      const path = [...root, ...below]
      const texts = path.length === 0 ? [] : yield* look(flat, path)
      // A tree of files has nothing to list where it has a file.
      const children = yield* Effect.catchIf(
        childrenOf(flat, path),
        (error) => texts.length > 0 || error._op === "MissingData",
        () => Effect.succeed([])
      )
      const names = children.filter((child) => !INDEX.test(child)).sort()
      const list = yield* firstOfList(flat, path, children)
      const first = texts[0]
      const found: Array<Leaf> = []
      if (first !== undefined && first.source <= list) {
        found.push({ path, below, kind: "text", text: first.text, source: first.source })
      } else if (names.length < children.length) {
        found.push({ path, below, kind: "list", text: "", source: list })
      } else if (names.length === 0 && below.length > 0) {
        found.push({ path, below, kind: "unreadable", text: "", source: Infinity })
      }
      for (const name of names) {
        const next = [...below, name]
        if (enter(next)) { for (const leaf of yield* walk(next)) found.push(leaf) }
      }
      return found
    })
  return walk([])
}

/**
 * The texts of a leaf: all texts of a list, or the one text of anything else.
 *
 * @internal
 */
export const textsOf = (
  flat: Flat,
  leaf: Leaf,
  isList: boolean
): Effect.Effect<ReadonlyArray<string>, ConfigError.ConfigError> =>
  Effect.gen(function*() {
    if (leaf.kind !== "list") {
      const parts = yield* flat.load(leaf.path, asIs, isList)
      // Nested providers split every text at commas.
      return isList ? parts : [parts.join(",")]
    }
    const texts: Array<string> = []
    for (const index of indices(yield* childrenOf(flat, leaf.path))) {
      const element = [...leaf.path, index]
      const found = yield* look(flat, element)
      // The first source has the list. An element of the second source does not belong to it.
      if (found.length > 0 && found[0]!.source !== leaf.source) continue
      texts.push((yield* flat.load(element, asIs, false)).join(","))
    }
    return texts
  })

const childrenOf = (flat: Flat, path: ReadonlyArray<string>) =>
  Effect.map(flat.enumerateChildren(path), (children) => Array.from(HashSet.values(children)))

const indices = (children: ReadonlyArray<string>): ReadonlyArray<string> =>
  children.filter((child) => INDEX.test(child)).sort((one, other) =>
    Number(one.slice(1, -1)) - Number(other.slice(1, -1))
  )

/** The first source that has an element of the list; `Infinity` if no source has one. */
const firstOfList = (flat: Flat, path: ReadonlyArray<string>, children: ReadonlyArray<string>) =>
  Effect.map(
    Effect.forEach(indices(children), (index) => look(flat, [...path, index])),
    (found) => found.flat().reduce((first, { source }) => Math.min(first, source), Infinity)
  )

const primitive = <A>(parse: (text: string) => Either.Either<A, ConfigError.ConfigError>) =>
  Config.primitive("a text", parse) as Config.Config.Primitive<A>

const asIs = primitive<string>(Either.right)

const FOUND = "found"

/**
 * The sources that have a text at a path. A provider with a fallback (`ConfigProvider.orElse`) asks the next source when one fails. The
 * probe fails for each source. So every source is asked, and the error lists their answers in order.
 */
const look = (
  flat: Flat,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<{ readonly source: number; readonly text: string }>> =>
  Effect.suspend(() => {
    const texts: Array<string> = []
    const probe = primitive<never>((text) => {
      texts.push(text)
      return Either.left(ConfigError.InvalidData([], FOUND))
    })
    return Effect.match(flat.load(path, probe, false), {
      onSuccess: () => [],
      onFailure: (error) =>
        answers(error).flatMap((answer, source) => answer === FOUND ? [source] : [])
          .map((source, at) => ({ source, text: texts[at] ?? "" }))
    })
  })

const answers = (error: ConfigError.ConfigError): ReadonlyArray<string> =>
  error._op === "And" || error._op === "Or"
    ? [...answers(error.left), ...answers(error.right)]
    : [error.message]

/**
 * A path as its source spells it.
 *
 * @internal
 */
export const show = (path: ReadonlyArray<string>): string => path.join(isVariable(path.slice(-1)) ? "_" : ".")

/**
 * Whether a path is spelled as a variable of the environment.
 *
 * @internal
 */
export const isVariable = (path: ReadonlyArray<string>): boolean => path.every((name) => /^[A-Z0-9_]+$/.test(name))

/**
 * Makes `closeDeadline`, `CLOSE_DEADLINE` and `close-deadline` the same key.
 *
 * @internal
 */
export const normalize = (path: string): string => path.replace(/[^A-Za-z0-9]/g, "").toLowerCase()
