/**
 * Settings as values: each key with its type, default, unit and meaning, read
 * strictly from a `ConfigProvider`. A key that nobody knows, or that nobody uses,
 * is an error: a setting is never dropped silently.
 *
 * A key `kafka.clientId` is `EVENTBUS_KAFKA_CLIENT_ID` in the environment and
 * `{ "eventbus": { "kafka": { "clientId": … } } }` in JSON or YAML.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as PathPatch from "effect/ConfigProviderPathPatch"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashSet from "effect/HashSet"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { InvalidConfiguration } from "./EventBusError.js"

/**
 * One setting.
 *
 * @since 0.1.0
 * @category models
 */
export interface Key<out A> {
  readonly read: (name: string) => Config.Config<A>
  /** What a value that is given in code has to be; `undefined` where it is that. */
  readonly expected: (value: unknown) => string | undefined
  readonly type: string
  /** The default as the docs show it; `undefined` where there is none. */
  readonly default: string | undefined
  readonly description: string
}

/**
 * Settings by their dotted path below `eventbus`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Spec {
  readonly [path: string]: Key<unknown>
}

/**
 * What reading a spec gives: the settings that were set.
 *
 * @since 0.1.0
 * @category models
 */
export type Values<S extends Spec> = {
  readonly [K in keyof S]?: S[K] extends Key<infer A> ? A : never
}

const isText = (value: unknown): boolean => typeof value === "string" && value.trim() !== ""

interface Doc {
  readonly default?: string | undefined
  readonly description: string
}

const key = <A>(
  type: string,
  read: (name: string) => Config.Config<A>,
  is: (value: unknown) => boolean,
  expected: string
) =>
(doc: Doc): Key<A> => ({
  read,
  expected: (value) => is(value) ? undefined : expected,
  type,
  default: doc.default,
  description: doc.description
})

/**
 * A text that is not empty.
 *
 * @since 0.1.0
 * @category keys
 */
export const string = key("text", Config.nonEmptyString, isText, "a text that is not blank")

/**
 * `true` or `false`; `yes`, `on`, `1` and their opposites are read as well.
 *
 * @since 0.1.0
 * @category keys
 */
export const boolean = key("`true` or `false`", Config.boolean, (value) => typeof value === "boolean", "true or false")

/**
 * A duration such as `10 seconds`, `500 millis`, `5 minutes`.
 *
 * @since 0.1.0
 * @category keys
 */
export const duration: (doc: Doc) => Key<Duration.Duration> = key(
  "duration",
  Config.duration,
  (value) => Option.isSome(Duration.decodeUnknown(value)),
  "a duration such as \"10 seconds\""
)

/**
 * A secret, which no log or error shows.
 *
 * @since 0.1.0
 * @category keys
 */
export const secret: (doc: Doc) => Key<Redacted.Redacted<string>> = key(
  "secret",
  (name) => Config.redacted(Config.nonEmptyString(name)),
  (value) => Redacted.isRedacted(value) && isText(Redacted.value(value)),
  "a secret (Redacted) that is not blank"
)

/**
 * Several texts: separated by commas in the environment, an array in JSON and YAML.
 *
 * @since 0.1.0
 * @category keys
 */
export const list: (doc: Doc) => Key<ReadonlyArray<string>> = key(
  "list",
  (name) => Config.array(Config.nonEmptyString(), name),
  (value) => Array.isArray(value) && value.every(isText),
  "a list of texts that are not blank"
)

/**
 * A whole number of at least `min` (1 by default).
 *
 * @since 0.1.0
 * @category keys
 */
export const integer = (doc: Doc & { readonly min?: number | undefined }): Key<number> => {
  const min = doc.min ?? 1
  const is = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= min
  const expected = `a whole number of at least ${min}`
  const read = (name: string) =>
    Config.validate(Config.integer(name), { message: `Expected ${expected}`, validation: is })
  return key(`integer ≥ ${min}`, read, is, expected)(doc)
}

/**
 * One of some words.
 *
 * @since 0.1.0
 * @category keys
 */
export const literal = <const Words extends ReadonlyArray<string>>(...words: Words) => (doc: Doc): Key<Words[number]> =>
  key(
    words.map((word) => `\`${word}\``).join(", "),
    (name) => Config.literal(...words)(name),
    (value) => words.includes(value as string),
    `one of ${words.join(", ")}`
  )(doc)

/**
 * What is wrong with settings that are given in code, as properties below a `section` of the spec (`"kafka"`, or `""` for
 * the root): unknown ones, and values of another type or range. `others` have no key, or another form than in the
 * configuration, and aren't looked at; neither are sections within the section. The answer has what is wrong by the
 * property's name.
 *
 * @since 0.1.0
 * @category reading
 */
export const problems = (
  spec: Spec,
  section: string,
  options: object,
  others: ReadonlyArray<string> = []
): ReadonlyMap<string, string> => {
  const paths = Object.keys(spec)
  const found = new Map<string, string>()
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || others.includes(name)) continue
    const path = section === "" ? name : `${section}.${name}`
    if (Object.hasOwn(spec, path)) {
      const { expected, type } = spec[path]!
      const what = expected(value)
      if (what === undefined) continue
      // Texts may hold secrets: addresses with a password, for example.
      const isShown = typeof value !== "object" && !["secret", "text", "list"].includes(type)
      found.set(name, `${path}: expected ${what}${isShown ? `, got ${String(value)}` : ""}`)
    } else if (!paths.some((other) => other.startsWith(`${path}.`))) {
      found.set(name, `${path}: unknown setting`)
    }
  }
  return found
}

/**
 * Reads the settings of `spec` from the current `ConfigProvider`, below `eventbus`. Everything set there has to be in `spec`.
 *
 * @since 0.1.0
 * @category reading
 */
export const load = <S extends Spec>(
  spec: S
): Effect.Effect<Values<S>, InvalidConfiguration> =>
  Effect.configProviderWith((provider) =>
    Effect.gen(function*() {
      const found = yield* leaves(provider)
      const known = new Map(Object.keys(spec).map((path) => [normalize(path), path]))
      const sections = new Set(Object.keys(spec).flatMap((path) => sectionsOf(path)))
      const issues: Array<string> = []
      const values: Record<string, unknown> = {}
      const raw = ConfigProvider.fromFlat({ ...provider.flattened, patch: PathPatch.empty })
      for (const leaf of found) {
        const name = normalize(leaf.below.join("."))
        const path = known.get(name)
        if (path === undefined) {
          if (leaf.isBlank && sections.has(name)) continue
          issues.push(`${show(leaf.path)}: unknown setting${suggestion(name, known)}`)
          continue
        }
        if (path in values) {
          issues.push(`${show(leaf.path)}: "${path}" is set twice`)
          continue
        }
        const value = yield* Effect.either(raw.load(at(leaf.path, spec[path]!.read)))
        if (Either.isLeft(value)) issues.push(`${show(leaf.path)}: ${explain(value.left)}`)
        else values[path] = value.right
      }
      return issues.length === 0
        ? values as Values<S>
        : yield* new InvalidConfiguration({ issues })
    })
  )

/** What a path is below of, from the root on. */
const sectionsOf = (path: string): ReadonlyArray<string> =>
  path.split(".").map((_, depth, names) => normalize(names.slice(0, depth).join(".")))

/** `closeDeadline`, `CLOSE_DEADLINE` and `close-deadline` are one key. */
const normalize = (path: string): string => path.replace(/[^A-Za-z0-9]/g, "").toLowerCase()

const show = (path: ReadonlyArray<string>): string => path[0] === "EVENTBUS" ? path.join("_") : path.join(".")

const at = <A>(path: ReadonlyArray<string>, read: (name: string) => Config.Config<A>): Config.Config<A> =>
  path.slice(0, -1).reduceRight((config, name) => Config.nested(config, name), read(path[path.length - 1]!))

const suggestion = (name: string, known: ReadonlyMap<string, string>): string => {
  if (name === "") return ""
  for (const [normalized, path] of known) {
    if (normalized.startsWith(name) || name.startsWith(normalized) || normalized.endsWith(name)) {
      return ` (did you mean "${path}"?)`
    }
  }
  return ""
}

const explain = (error: ConfigError.ConfigError): string => {
  switch (error._op) {
    case "And":
    case "Or":
      return `${explain(error.left)}; ${explain(error.right)}`
    default:
      return error.message
  }
}

interface Leaf {
  readonly path: ReadonlyArray<string>
  /** The path without the root. */
  readonly below: ReadonlyArray<string>
  /** An empty text, which is also what an empty section looks like. */
  readonly isBlank: boolean
}

/** All that is set below `eventbus`, in whatever naming the provider has. */
const leaves = (provider: ConfigProvider.ConfigProvider): Effect.Effect<ReadonlyArray<Leaf>, InvalidConfiguration> =>
  Effect.gen(function*() {
    const flat = provider.flattened
    const found: Array<Leaf> = []
    const roots = new Map<string, ReadonlyArray<string>>()
    for (const name of ["eventbus", "EVENTBUS"]) {
      const root = patched([name], flat.patch)
      roots.set(root.join("\u0000"), root)
    }
    const walk = (path: ReadonlyArray<string>, depth: number): Effect.Effect<void, ConfigError.ConfigError> =>
      Effect.gen(function*() {
        const children = Array.from(HashSet.values(yield* flat.enumerateChildren(path)))
        const names = children.filter((child) => !/^\[\d+\]$/.test(child))
        const isList = names.length < children.length
        const text = isList || path.length === 0 ? undefined : yield* textAt(flat, path)
        if (isList || text !== undefined) found.push({ path, below: path.slice(depth), isBlank: text === "" })
        for (const name of names) yield* walk([...path, name], depth)
      })
    for (const root of roots.values()) yield* walk(root, root.length)
    return found
  }).pipe(
    Effect.mapError((error) => new InvalidConfiguration({ issues: [explain(error)], cause: error }))
  )

const textAt = (flat: ConfigProvider.ConfigProvider.Flat, path: ReadonlyArray<string>) =>
  ConfigProvider.fromFlat({ ...flat, patch: PathPatch.empty }).load(at(path, Config.string)).pipe(
    Effect.orElseSucceed(() => undefined)
  )

const patched = (path: ReadonlyArray<string>, patch: PathPatch.PathPatch): ReadonlyArray<string> => {
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
