/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { rename } from "node:fs/promises"
import { join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as Cache from "./Cache.js"
import * as Command from "./Command.js"
import * as Debian from "./Debian.js"

/**
 * The paths of the two programs: the server, and the tool that checks rules.
 *
 * @since 0.1.0
 * @category models
 */
export interface Programs {
  readonly prometheus: string
  readonly promtool: string
}

const advice =
  "Put prometheus and promtool on the PATH, name their folder in TEST_PROMETHEUS, or use Debian (its package prometheus)."

const names = ["prometheus", "promtool"] as const

const inFolder = (folder: string): Programs => ({
  prometheus: join(folder, "prometheus"),
  promtool: join(folder, "promtool")
})

/** Whether the output of `--version` is of a Prometheus that knows what the rules use. */
const isOf = (output: string): boolean => {
  const major = /version (\d+)\./.exec(output)?.[1]
  return major !== undefined && Number(major) >= 2
}

const onPath = Effect.map(
  Effect.forEach(names, (name) => Command.find([name], ["--version"], isOf)),
  (found): Programs | undefined =>
    found.includes(undefined) ? undefined : { prometheus: "prometheus", promtool: "promtool" }
)

const byDebian = (folder: string) =>
  Effect.gen(function*() {
    yield* Debian.unpack("prometheus", "prometheus", folder, advice)
    yield* Effect.tryPromise({
      try: () => Promise.all(names.map((name) => rename(join(folder, "usr", "bin", name), join(folder, name)))),
      catch: system("prometheus", "its package can't be written")
    })
  })

/**
 * The programs that `TEST_PROMETHEUS` names a folder of, or those on the PATH, or else ours from the cache, made the first time.
 *
 * @since 0.1.0
 * @category constructors
 */
export const get: Effect.Effect<Programs, BrokerError> = Effect.gen(function*() {
  const named = process.env["TEST_PROMETHEUS"]
  if (named !== undefined && named !== "") {
    const programs = inFolder(named)
    if (existsSync(programs.prometheus) && existsSync(programs.promtool)) return programs
    return yield* new BrokerError({
      broker: "prometheus",
      reason: "Missing",
      detail: `${named}, which TEST_PROMETHEUS names, does not have prometheus and promtool.`,
      advice
    })
  }
  return (yield* onPath) ?? inFolder(yield* Cache.entry("prometheus-debian-1", byDebian))
})
