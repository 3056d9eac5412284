import type * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Root from "./configRoot.js"
import * as Source from "./configSource.js"
import * as Logging from "./logging.js"
import type { Key, Spec } from "./setting.js"

/**
 * The settings of a spec that a provider has.
 *
 * @internal
 */
export interface Reading {
  /** The right values, by the path of their setting. */
  readonly values: Readonly<Record<string, unknown>>
  /** The paths of the settings with wrong values. */
  readonly wrong: ReadonlySet<string>
  readonly issues: ReadonlyArray<string>
}

/**
 * Reads the settings of a spec from the current `ConfigProvider`, with everything that is wrong.
 *
 * @internal
 */
export const read = (spec: Spec): Effect.Effect<Reading> =>
  Effect.configProviderWith(({ flattened }) => reading(spec, flattened)).pipe(
    Effect.catchAll((error) => Effect.succeed({ values: {}, wrong: new Set<string>(), issues: [explain(error)] }))
  )

const reading = Effect.fnUntraced(function*(spec: Spec, provider: Source.Flat) {
  const values: Record<string, unknown> = {}
  const wrong = new Set<string>()
  const issues: Array<string> = []
  const known = new Map(Object.keys(spec).map((path) => [Source.normalize(path), path]))
  const sections = new Set(Object.keys(spec).flatMap(sectionsOf))
  const set = new Map<string, Array<Source.Leaf>>()
  const ofKubernetes: Array<string> = []
  for (const leaf of yield* belowRoot(provider)) {
    const name = Source.normalize(leaf.below.join("."))
    const path = known.get(name)
    if (leaf.kind === "unreadable") issues.push(`${Source.show(leaf.path)}: ${UNREADABLE}`)
    else if (path !== undefined) set.set(path, [...set.get(path) ?? [], leaf])
    else if (leaf.text === "" && leaf.kind === "text" && sections.has(name)) continue
    else if (Root.isOfKubernetes(leaf)) ofKubernetes.push(Source.show(leaf.path))
    else issues.push(`${Source.show(leaf.path)}: unknown setting${hint(leaf, spec, known)}`)
  }
  for (const [path, leaves] of set) {
    for (const issue of twice(path, leaves)) issues.push(issue)
    const leaf = leaves.reduce((first, other) => other.source < first.source ? other : first)
    const value = decode(spec[path]!, leaf, yield* Source.textsOf(provider, leaf, spec[path]!.isList))
    if (Either.isRight(value)) values[path] = value.right
    else {
      wrong.add(path)
      issues.push(`${Source.show(leaf.path)}: ${value.left}`)
    }
  }
  const strays = yield* Root.strays(provider, {
    paths: known,
    leaves: Array.from(set.values()).flat(),
    isTelling: (path, text) => !path.includes(".") && spec[path]!.words?.includes(text) === true
  })
  if (ofKubernetes.length > 0) {
    yield* Logging.info(
      `These variables are ignored, Kubernetes sets them for a Service whose name begins with "eventbus": ${
        ofKubernetes.sort().join(", ")
      }`
    )
  }
  return { values, wrong, issues: [...issues, ...strays] }
})

const UNREADABLE = "it is set, but can't be read; the name of a variable has capital letters only"

/** Everything that is set below the root, in the provider's naming. */
const belowRoot = (provider: Source.Flat) =>
  Effect.gen(function*() {
    const roots = new Map<string, ReadonlyArray<string>>()
    for (const name of [Root.ROOT, Root.ROOT.toUpperCase()]) {
      const root = Source.patched([name], provider.patch)
      roots.set(root.join("\u0000"), root)
    }
    const found = yield* Effect.forEach(roots.values(), (root) => Source.leaves(provider, root))
    return found.flat()
  })

/** One source may have a setting once. If several sources have it, the first one overrides the others. */
const twice = (path: string, leaves: ReadonlyArray<Source.Leaf>): ReadonlyArray<string> =>
  leaves.flatMap((leaf, at) => {
    const other = leaves.slice(0, at).find((earlier) =>
      earlier.source === leaf.source &&
      // A source with another naming (`ConfigProvider.constantCase`) shows one setting under several names.
      !(earlier.kind === "text" && leaf.kind === "text" && earlier.text === leaf.text)
    )
    return other === undefined
      ? []
      : [`${Source.show(leaf.path)}: "${path}" is set twice, also as ${Source.show(other.path)}`]
  })

/** An empty list in JSON. */
const NIL = "<nil>"

const decode = (
  key: Key<unknown, never, unknown>,
  leaf: Source.Leaf,
  texts: ReadonlyArray<string>
): Either.Either<unknown, string> => {
  const isEmptyList = leaf.kind === "text" && leaf.text === NIL
  return key.isList || (leaf.kind === "text" && !isEmptyList)
    ? key.decode(isEmptyList ? [] : texts)
    : Either.left(`expected ${key.wanted}, got a list (write a single value, without brackets)`)
}

/** The transports whose settings a program may have without their drivers. */
const drivers = ["kafka", "nats", "memory"]

/** The sections that a path stands in, from the root on. */
const sectionsOf = (path: string): ReadonlyArray<string> =>
  path.split(".").map((_, depth, names) => Source.normalize(names.slice(0, depth).join(".")))

const hint = ({ below, path }: Source.Leaf, spec: Spec, known: ReadonlyMap<string, string>): string => {
  for (let length = below.length - 1; length > 0; length--) {
    const above = known.get(Source.normalize(below.slice(0, length).join(".")))
    if (above !== undefined) return ` ("${above}" is ${spec[above]!.wanted}, with nothing below it)`
  }
  const name = Source.normalize(below.join("."))
  const driver = drivers.find((driver) => name.startsWith(driver))
  if (driver !== undefined && !Object.keys(spec).some((path) => path.startsWith(`${driver}.`))) {
    return ` (no driver of the ${driver} transport is given to TransportConfig.layer)`
  }
  const meant = Root.closest(name, known)
  return meant === undefined ? "" : ` (did you mean "${Source.isVariable(path) ? Root.variable(meant) : meant}"?)`
}

const explain = (error: ConfigError.ConfigError): string =>
  error._op === "And" || error._op === "Or" ? `${explain(error.left)}; ${explain(error.right)}` : error.message
