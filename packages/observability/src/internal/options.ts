import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"

/** A number that is no setting of a spec, such as a share, and its bounds. */
interface Bounds {
  readonly least: number
  readonly most?: number | undefined
}

/**
 * The values of options: the defaults of the spec, and what was given. It fails with all that is wrong with them, named below `section`.
 *
 * @internal
 */
export const valuesOf = <S extends ConfigSpec.Spec>(
  section: string,
  spec: S,
  options: object,
  { numbers = {}, others = [] }: {
    readonly numbers?: { readonly [name: string]: Bounds }
    /** Functions, and what is checked elsewhere. */
    readonly others?: ReadonlyArray<string>
  } = {}
): Effect.Effect<ConfigSpec.Service<S>, InvalidConfiguration> =>
  Effect.suspend(() => {
    const given: { readonly [name: string]: unknown } = { ...options }
    const known = [...others, ...Object.keys(numbers)]
    const issues = Array.from(ConfigSpec.problems(ConfigSpec.below(section, spec), section, given, known).values())
    for (const [name, { least, most = Infinity }] of Object.entries(numbers)) {
      const value = given[name]
      if (value === undefined || (typeof value === "number" && value >= least && value <= most)) continue
      const wanted = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`
      issues.push(
        `${section}.${name}: expected a number ${wanted}, got ${typeof value === "number" ? value : typeof value}`
      )
    }
    if (issues.length > 0) return new InvalidConfiguration({ issues })
    const values: Record<string, unknown> = { ...ConfigSpec.defaults(spec) }
    for (const [name, key] of Object.entries(spec)) {
      if (given[name] !== undefined) values[name] = key.from(given[name] as never)
    }
    return Effect.succeed(values as ConfigSpec.Service<S>)
  })
