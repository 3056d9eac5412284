/**
 * Settings as values. One list has each setting with its type, default, unit and meaning. The types of the options and of the
 * values, the defaults, the keys in the environment, JSON and YAML, and the tables of the docs are made from that list. Reading is
 * strict: an unknown key is an error, so no setting is dropped silently.
 *
 * The key `kafka.clientId` is `EVENTBUS_KAFKA_CLIENT_ID` in the environment and
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
 * The values of a spec's settings that were set.
 *
 * @since 0.1.0
 * @category models
 */
export type Values<S extends Spec> = {
  readonly [K in keyof S]?: S[K] extends Key<infer A, never, unknown> ? A : never
}

/**
 * A spec's settings as options in code. Each can be left out.
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
 * Makes a setting of one kind. The default is a value. It is a text for the docs where it depends on something else.
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
  /** The value of a text; `undefined` if the text is not right. */
  readonly read: (text: string) => A | undefined
  readonly is: (value: unknown) => boolean
  readonly from: (value: I) => A
  /** Error messages don't show the text: it may hold a secret, as an address with a password does. */
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

const YES = /^\s*(true|yes|on|1)\s*$/i
const NO = /^\s*(false|no|off|0)\s*$/i

/**
 * `true` or `false`. The configuration may also have `yes`, `on`, `1` and their opposites.
 *
 * @since 0.1.0
 * @category keys
 */
export const boolean: Make<boolean, boolean> = (doc: AnyDoc) =>
  scalar({
    type: "`true` or `false`",
    wanted: "true or false",
    read: (text) => YES.test(text) ? true : NO.test(text) ? false : undefined,
    is: (value) => typeof value === "boolean",
    from: same
  }, doc)

/** `Duration.decode` takes a negative number for zero, so this looks at the input itself. */
const isNegative = (value: unknown): boolean =>
  typeof value === "number" || typeof value === "bigint"
    ? !(value >= 0)
    : typeof value === "string"
    ? value.trim().startsWith("-")
    : Array.isArray(value) && value.some(isNegative)

/**
 * A duration such as `10 seconds`, `500 millis`, `5 minutes`. It has to be above zero unless `zero` is true, and finite unless `infinite` is
 * true.
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
 * Several texts. They are separated by commas in the environment, and are an array in JSON and YAML.
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
  { readonly min?: number | undefined; readonly max?: number | undefined; readonly unit?: string | undefined }
> = (
  doc: AnyDoc & {
    readonly min?: number | undefined
    readonly max?: number | undefined
    readonly unit?: string | undefined
  }
) => {
  const { max, min = 1 } = doc
  const is = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= min && (n as number) <= (max ?? Infinity)
  return scalar({
    type: `integer ${max === undefined ? `≥ ${min}` : `${min} to ${max}`}${
      doc.unit === undefined ? "" : ` (${doc.unit})`
    }`,
    wanted: max === undefined ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`,
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
 * The defaults, with the options that were given in code in their places. It fails with everything that is wrong with the options. The
 * error names the settings below `section` (`""` for the root).
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
 * What is wrong with options that were given in code, by the option's name: an unknown option, or a value of another type or range. The
 * options are the settings of one `section` of the spec (`"kafka"`, or `""` for the root). Sections within the section are not checked, and
 * neither are the options in `others`, which have no key or have another form in the configuration.
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
 * Reads the settings of `spec` from the current `ConfigProvider`, below `eventbus`. A setting there that is not in `spec` is an error. A
 * setting of `spec` that stands elsewhere is an error, too. With two sources (`ConfigProvider.orElse`) the first one overrides the
 * second.
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
