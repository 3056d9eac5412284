import type * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Source from "./configSource.js"

/**
 * All settings stand below this name.
 *
 * @internal
 */
export const ROOT = "eventbus"

/**
 * The settings that are known, and those that were found at their place.
 *
 * @internal
 */
export interface Known {
  /** The paths of the settings, by their normalized form. */
  readonly paths: ReadonlyMap<string, string>
  /** Whether only this setting can have the text as its value, as the setting `transport` has the name of a transport. */
  readonly isTelling: (path: string, text: string) => boolean
  /** The settings below the right root. */
  readonly leaves: ReadonlyArray<Source.Leaf>
}

/**
 * Finds settings that stand beside the root `eventbus` and would be ignored. They stand below a root of another spelling (`eventBus`,
 * `eventbsu`, `EVENT_BUS_…`), or at the top of a source that has no root. The application's own keys are no strays: a root counts as a
 * misspelt one only if one of our settings is below it.
 *
 * @internal
 */
export const strays = (
  flat: Source.Flat,
  known: Known
): Effect.Effect<ReadonlyArray<string>, ConfigError.ConfigError> =>
  Effect.gen(function*() {
    const paths = Array.from(known.paths.keys())
    const mayBe = (name: string) =>
      name !== "" && (ROOT.startsWith(name) || name.startsWith(ROOT) || isNear(name, ROOT) ||
        paths.some((path) => path.startsWith(name)))
    const found = yield* Source.leaves(flat, Source.patched([], flat.patch), (below) =>
      !(below.length === 1 && isRoot(below[0]!)) &&
      (mayBe(nameOf(below)) || isNear(Source.normalize(below[0]!), ROOT)))
    return [...belowOtherRoots(found, known), ...withoutRoot(found, known)]
  })

const nameOf = (below: ReadonlyArray<string>): string => Source.normalize(below.join("."))

const isRoot = (name: string): boolean => name === ROOT || name === ROOT.toUpperCase()

const belowOtherRoots = (found: ReadonlyArray<Source.Leaf>, { leaves, paths }: Known): ReadonlyArray<string> => {
  const byRoot = new Map<string, Array<string>>()
  const id = ({ source, text }: Source.Leaf, name: string) => [source, name, text].join("\u0000")
  // A source with another naming (`ConfigProvider.pascalCase`) shows a setting that was read under that naming as well.
  const read = new Set(leaves.map((leaf) => id(leaf, nameOf(leaf.below))))
  for (const leaf of found) {
    const { below, path } = leaf
    // The root may be the first name, the first names together (`EVENT_BUS_…`), or the beginning of a name.
    const whole = nameOf(below)
    const isOurs = whole.startsWith(ROOT)
    const rest = isOurs
      ? whole.slice(ROOT.length)
      : isNear(Source.normalize(below[0]!), ROOT)
      ? nameOf(below.slice(1))
      : undefined
    if (rest === undefined || read.has(id(leaf, rest))) continue
    if (!paths.has(rest) && !(isOurs && Array.from(paths.keys()).some((path) => isNear(rest, path)))) continue
    const root = isOurs ? beginning(below) : below[0]!
    byRoot.set(root, [...byRoot.get(root) ?? [], Source.show(path)])
  }
  return Array.from(byRoot, ([root, names]) => {
    const meant = root === root.toUpperCase() ? ROOT.toUpperCase() : ROOT
    return names.includes(root) && nameOf([root]) !== ROOT
      ? `${root}: its source takes this for one name, and divides it nowhere. The setting is "${meant}" with a name below it ` +
        `(ConfigProvider.fromMap divides at ".", unless its pathDelim says otherwise)`
      : `${root}: did you mean "${meant}"? ` +
        `Below this name nothing is read, but settings of the bus are there: ${names.join(", ")}`
  })
}

/** The root as the source spells it: its first name, or several names. */
const beginning = (below: ReadonlyArray<string>): string => {
  for (let length = 1; length <= below.length; length++) {
    if (Source.normalize(below.slice(0, length).join(".")).length >= ROOT.length) {
      return Source.show(below.slice(0, length))
    }
  }
  return Source.show(below)
}

const withoutRoot = (found: ReadonlyArray<Source.Leaf>, known: Known): ReadonlyArray<string> => {
  let weight = 0
  const names: Array<string> = []
  const ours = new Set(known.leaves.map(({ below }) => nameOf(below)))
  const sources = new Set(known.leaves.map(({ source }) => source))
  for (const { below, path, source, text } of found) {
    const setting = known.paths.get(nameOf(below))
    if (setting === undefined || sources.has(source)) continue
    const isTelling = known.isTelling(setting, text) && !ours.has(nameOf(below))
    // Variables such as KAFKA_BROKERS and words such as "group" may be the application's own. If another source has our settings at
    // their place, everything except the name of a transport may be the application's own.
    if (!isTelling && (Source.isVariable(below) || !/[A-Z.]/.test(setting) || sources.size > 0)) continue
    weight += isTelling || setting.includes(".") ? 2 : 1
    names.push(Source.show(path))
  }
  return weight < 2 ? [] : [
    `${names.join(", ")}: nothing is read here. The settings of the bus stand below "${ROOT}" ` +
    `(as in ${ROOT}.transport, or ${ROOT.toUpperCase()}_TRANSPORT in the environment)`
  ]
}

/**
 * The variable of the environment that a setting's path stands for: `EVENTBUS_KAFKA_CLIENT_ID`.
 *
 * @internal
 */
export const variable = (path: string): string =>
  `${ROOT}.${path}`.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/[.-]/g, "_").toUpperCase()

/**
 * The setting that was probably meant by a normalized name. The two are nearly the same, or one is a part of the other.
 *
 * @internal
 */
export const closest = (name: string, paths: ReadonlyMap<string, string>): string | undefined => {
  if (name === "") return undefined
  for (const [normalized, path] of paths) if (isNear(name, normalized)) return path
  for (const [normalized, path] of paths) {
    if (normalized.startsWith(name) || name.startsWith(normalized) || normalized.endsWith(name)) return path
  }
  return undefined
}

/**
 * Whether two words differ by at most one mistake: one letter is missing, added or wrong, or two neighbours have changed places.
 *
 * @internal
 */
export const isNear = (one: string, other: string): boolean => {
  const [short, long] = one.length <= other.length ? [one, other] : [other, one]
  if (long.length - short.length > 1 || short.length < 2) return one === other
  let at = 0
  while (at < short.length && short[at] === long[at]) at++
  const rest = short.slice(at)
  if (short.length < long.length) return rest === long.slice(at + 1)
  return rest.slice(1) === long.slice(at + 1) ||
    (rest[0] === long[at + 1] && rest[1] === long[at] && rest.slice(2) === long.slice(at + 2))
}

const FORMS: ReadonlyArray<readonly [name: RegExp, value: RegExp]> = [
  [/(^|_)SERVICE_HOST$/, /^[0-9a-fA-F:.]+$/],
  [/(^|_)SERVICE_PORT(_[A-Z0-9_]+)?$/, /^\d+$/],
  [/(^|_)PORT(_\d+_(TCP|UDP|SCTP))?$/, /^(tcp|udp|sctp):\/\//],
  [/(^|_)PORT_\d+_(TCP|UDP|SCTP)_PROTO$/, /^(tcp|udp|sctp)$/],
  [/(^|_)PORT_\d+_(TCP|UDP|SCTP)_PORT$/, /^\d+$/],
  [/(^|_)PORT_\d+_(TCP|UDP|SCTP)_ADDR$/, /^[0-9a-fA-F:.]+$/]
]

/**
 * Whether Kubernetes set a variable: for a Service named `eventbus` (or `eventbus-kafka`) it gives every Pod `EVENTBUS_PORT` and
 * the like. Name and value have to fit, so that a port that a user set is an unknown setting as before.
 *
 * @internal
 */
export const isOfKubernetes = ({ below, kind, path, text }: Source.Leaf): boolean =>
  kind === "text" && Source.isVariable(path) &&
  FORMS.some(([name, value]) => name.test(below.join("_")) && value.test(text))
