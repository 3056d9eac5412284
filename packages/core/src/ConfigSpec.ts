/**
 * Settings as values: one list has each setting with its type, default, unit and meaning. From the list follow the
 * type of the options, the type of the values, the defaults, the keys in the environment, JSON and YAML, and
 * the tables of the docs. Reading is strict: a key that nobody knows is an error, so a setting is never dropped silently.
 *
 * A key `kafka.clientId` is `EVENTBUS_KAFKA_CLIENT_ID` in the environment and
 * `{ "eventbus": { "kafka": { "clientId": … } } }` in JSON or YAML.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { InvalidConfiguration } from "./EventBusError.js"
import type { Key, Spec } from "./internal/setting.js"
import * as Settings from "./internal/settings.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Key,
  /**
   * @since 0.1.0
   * @category models
   */
  Spec
} from "./internal/setting.js"

/**
 * What reading a spec gives: the settings that were set.
 *
 * @since 0.1.0
 * @category models
 */
export type Values<S extends Spec> = {
  readonly [K in keyof S]?: S[K] extends Key<infer A, never, unknown> ? A : never
}

/**
 * The options in code that a spec stands for. All can be left out.
 *
 * @since 0.1.0
 * @category models
 */
export type Options<S extends Spec> = {
  readonly [K in keyof S]?: (S[K] extends Key<unknown, infer I, unknown> ? I : never) | undefined
}

/**
 * All settings of a spec with their values.
 *
 * @since 0.1.0
 * @category models
 */
export type Service<S extends Spec> = {
  readonly [K in keyof S]: S[K] extends Key<unknown, never, infer D> ? D : never
}

/**
 * The settings of a spec below a section: `partitions` becomes `memory.partitions`.
 *
 * @since 0.1.0
 * @category models
 */
export type Below<Section extends string, S extends Spec> = {
  readonly [K in keyof S & string as `${Section}.${K}`]: S[K]
}

/**
 * How a kind of setting is made. A default is a value, or words where it depends on something else.
 *
 * @since 0.1.0
 * @category models
 */
export interface Make<A, I, Doc = unknown> {
  (doc: Doc & { readonly default: I; readonly description: string }): Key<A, I, A>
  (doc: Doc & { readonly default?: string | undefined; readonly description: string }): Key<A, I>
}

interface AnyDoc {
  readonly default?: unknown
  readonly description: string
}

interface Kind<A, I> {
  readonly type: string
  readonly wanted: string
  /** The value that a text stands for; `undefined` where it stands for none. */
  readonly read: (text: string) => A | undefined
  readonly is: (value: unknown) => boolean
  readonly from: (value: I) => A
  /** Texts may hold secrets: addresses with a password, for example. */
  readonly isHidden?: boolean
  readonly words?: ReadonlyArray<string>
}

const scalar = <A, I>(kind: Kind<A, I>, doc: AnyDoc): Key<A, I, never> => {
  const { from, is, isHidden, read, type, wanted, words } = kind
  const refused = (value: unknown) => {
    const isShown = isHidden !== true && typeof value !== "object" && typeof value !== "function"
    return `expected ${wanted}${isShown ? `, got ${String(value)}` : ""}`
  }
  const value = typeof doc.default === "string" ? read(doc.default) : doc.default
  return {
    decode: ([text = ""]) => {
      const found = read(text)
      return found === undefined ? Either.left(refused(text)) : Either.right(found)
    },
    expected: (value) => is(value) ? undefined : refused(value),
    from,
    wanted,
    type,
    isList: false,
    words,
    default: doc.default === undefined ? undefined : String(doc.default),
    value: value as never,
    description: doc.description
  }
}

const same = <A>(value: A): A => value

const isText = (value: unknown): value is string => typeof value === "string" && value.trim() !== ""

const text: Kind<string, string> = {
  type: "text",
  wanted: "a text that is not blank",
  read: (text) => isText(text) ? text : undefined,
  is: isText,
  from: same,
  isHidden: true
}

/**
 * A text that is not blank.
 *
 * @since 0.1.0
 * @category keys
 */
export const string: Make<string, string> = (doc: AnyDoc) => scalar(text, doc)

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  1: true,
  false: false,
  no: false,
  off: false,
  0: false
}

/**
 * `true` or `false`; `yes`, `on`, `1` and their opposites are read as well.
 *
 * @since 0.1.0
 * @category keys
 */
export const boolean: Make<boolean, boolean> = (doc: AnyDoc) =>
  scalar({
    type: "`true` or `false`",
    wanted: "true or false",
    read: (text) =>
      Object.hasOwn(BOOLEANS, text.trim().toLowerCase()) ? BOOLEANS[text.trim().toLowerCase()] : undefined,
    is: (value) => typeof value === "boolean",
    from: same
  }, doc)

/** Effect takes a negative number for zero, so the sign is looked for in what was given. */
const isNegative = (value: unknown): boolean =>
  typeof value === "number" || typeof value === "bigint"
    ? !(value >= 0)
    : typeof value === "string"
    ? value.trim().startsWith("-")
    : Array.isArray(value) && value.some(isNegative)

/**
 * A duration such as `10 seconds`, `500 millis`, `5 minutes`. It is above zero and finite, unless `zero` or `infinite` say otherwise.
 *
 * @since 0.1.0
 * @category keys
 */
export const duration: Make<
  Duration.Duration,
  Duration.DurationInput,
  { readonly zero?: boolean | undefined; readonly infinite?: boolean | undefined }
> = (doc: AnyDoc & { readonly zero?: boolean | undefined; readonly infinite?: boolean | undefined }) => {
  const read = (value: unknown): Duration.Duration | undefined => {
    const found = Option.getOrUndefined(Duration.decodeUnknown(value))
    return found === undefined || isNegative(value) || (doc.zero !== true && Duration.toMillis(found) === 0) ||
        (doc.infinite !== true && !Duration.isFinite(found))
      ? undefined
      : found
  }
  const bounds = [doc.zero === true ? "zero or above" : "above zero", doc.infinite === true ? "" : "finite"].filter((
    bound
  ) => bound !== "")
  const wanted = `a duration such as "10 seconds", ${bounds.join(" and ")}`
  return scalar({
    type: "duration",
    wanted,
    read: (text) => read(text.trim()),
    is: (value) => read(value) !== undefined,
    from: Duration.decode
  }, doc)
}

/**
 * A secret, which no log or error shows.
 *
 * @since 0.1.0
 * @category keys
 */
export const secret = (doc: { readonly description: string }): Key<Redacted.Redacted<string>> =>
  scalar<Redacted.Redacted<string>, Redacted.Redacted<string>>({
    type: "secret",
    wanted: "a secret (Redacted) that is not blank",
    read: (text) => isText(text) ? Redacted.make(text) : undefined,
    is: (value) => Redacted.isRedacted(value) && isText(Redacted.value(value)),
    from: same,
    isHidden: true
  }, doc)

/**
 * Several texts: separated by commas in the environment, an array in JSON and YAML.
 *
 * @since 0.1.0
 * @category keys
 */
export const list: Make<ReadonlyArray<string>, ReadonlyArray<string>> = (doc: AnyDoc) => {
  const wanted = "a list of texts that are not blank"
  const isRight = (value: unknown) => Array.isArray(value) && value.every(isText)
  return {
    ...scalar<ReadonlyArray<string>, ReadonlyArray<string>>({
      type: "list",
      wanted,
      read: (text) => isText(text) ? text.split(",").map((part) => part.trim()) : undefined,
      is: isRight,
      from: same,
      isHidden: true
    }, doc),
    isList: true,
    decode: (texts) => isRight(texts) ? Either.right(texts) : Either.left(`expected ${wanted}`)
  }
}

/**
 * A whole number of at least `min` (1 by default), counted in a `unit`.
 *
 * @since 0.1.0
 * @category keys
 */
export const integer: Make<
  number,
  number,
  { readonly min?: number | undefined; readonly unit?: string | undefined }
> = (doc: AnyDoc & { readonly min?: number | undefined; readonly unit?: string | undefined }) => {
  const min = doc.min ?? 1
  const is = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= min
  return scalar({
    type: `integer ≥ ${min}${doc.unit === undefined ? "" : ` (${doc.unit})`}`,
    wanted: `a whole number of at least ${min}`,
    read: (text) => isText(text) && is(Number(text)) ? Number(text) : undefined,
    is,
    from: same
  }, doc)
}

/**
 * One of some words.
 *
 * @since 0.1.0
 * @category keys
 */
export const literal = <const Words extends ReadonlyArray<string>>(
  ...words: Words
): Make<Words[number], Words[number]> =>
(doc: AnyDoc) =>
  scalar<Words[number], Words[number]>({
    type: words.map((word) => `\`${word}\``).join(", "),
    wanted: `one of ${words.join(", ")}`,
    read: (text) => words.find((word) => word === text),
    is: (value) => words.includes(value as string),
    from: same,
    words
  }, doc)

/**
 * The settings of a spec, below a section.
 *
 * @since 0.1.0
 * @category constructors
 */
export const below = <const Section extends string, S extends Spec>(section: Section, spec: S): Below<Section, S> =>
  Object.fromEntries(Object.entries(spec).map(([path, key]) => [`${section}.${path}`, key])) as Below<Section, S>

/**
 * The values that were read below a section, as options.
 *
 * @since 0.1.0
 * @category reading
 */
export const within = <const Section extends string, V extends object>(
  section: Section,
  values: V
): { readonly [K in keyof V as K extends `${Section}.${infer Name}` ? Name : never]: V[K] } =>
  Object.fromEntries(
    Object.entries(values).flatMap(([path, value]) =>
      path.startsWith(`${section}.`) ? [[path.slice(section.length + 1), value]] : []
    )
  ) as never

/**
 * The defaults of settings that all have one.
 *
 * @since 0.1.0
 * @category constructors
 */
export const defaults = <S extends Spec>(spec: S): Service<S> =>
  Object.fromEntries(Object.entries(spec).map(([path, key]) => [path, key.value])) as Service<S>

/**
 * The defaults with the options that were given in code, or everything that is wrong with these. Errors name the settings
 * below `section` (`""` for the root).
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <S extends Spec>(
  spec: S,
  section: string,
  options: Options<S>
): Effect.Effect<Service<S>, InvalidConfiguration> =>
  Effect.suspend(() => {
    const all = section === "" ? spec : below(section, spec)
    const issues = Array.from(problems(all, section, options).values())
    if (issues.length > 0) return new InvalidConfiguration({ issues })
    const values: Record<string, unknown> = { ...defaults(spec) }
    for (const [path, value] of Object.entries(options)) {
      if (value !== undefined) values[path] = spec[path]!.from(value as never)
    }
    return Effect.succeed(values as Service<S>)
  })

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
      const what = spec[path]!.expected(value)
      if (what !== undefined) found.set(name, `${path}: ${what}`)
    } else if (!paths.some((other) => other.startsWith(`${path}.`))) {
      found.set(name, `${path}: unknown setting`)
    }
  }
  return found
}

/**
 * Reads the settings of `spec` from the current `ConfigProvider`, below `eventbus`. Everything set there has to be in `spec`, and
 * what looks like a setting of it elsewhere is an error, too. Of two sources (`ConfigProvider.orElse`), the first goes first.
 *
 * @since 0.1.0
 * @category reading
 */
export const load = <S extends Spec>(spec: S): Effect.Effect<Values<S>, InvalidConfiguration> =>
  Effect.flatMap(
    Settings.read(spec),
    ({ issues, values }) =>
      issues.length === 0 ? Effect.succeed(values as Values<S>) : new InvalidConfiguration({ issues })
  )
