/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as Cache from "./Cache.js"
import * as Command from "./Command.js"
import * as Debian from "./Debian.js"
import * as GoToolchain from "./GoToolchain.js"

/**
 * The lines of nats-server that can be asked for: today's, and the oldest that the library supports; or one version of any.
 *
 * @since 0.1.0
 * @category models
 */
export type Version = "2.15" | "2.9" | `${number}.${number}.${number}`

/**
 * The one that is taken where nobody asks for another: in `Nats.make`, or by `TEST_NATS_VERSION`.
 *
 * @since 0.1.0
 * @category models
 */
export const defaultVersion = "2.15"

const exact = "2.15.2"

/**
 * What a text says, as of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const versionOf = (text: string): Effect.Effect<Version, BrokerError> =>
  text === "2.15" || text === "2.9" || /^\d+\.\d+\.\d+$/.test(text)
    ? Effect.succeed(text as Version)
    : Effect.fail(
      new BrokerError({
        broker: "nats",
        reason: "Missing",
        detail: `${text} is no version of nats-server that can be asked for`,
        advice: "Such as 2.15, 2.9 or 2.11.3."
      })
    )

const advice = (version: Version) =>
  `Put nats-server ${version} on the PATH, ` +
  (version === "2.9" ? "use Debian 12 (its package nats-server), " : "install Go, ") +
  "start Docker, or name a running server in TEST_NATS_SERVERS."

/**
 * Whether the output of `nats-server --version` is of such a server.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isOf = (version: string) => (output: string): boolean =>
  output.split(/\s/).some((word) => word === `v${version}` || word.startsWith(`v${version}.`))

const onPath = (version: Version) => Command.find(["nats-server"], ["--version"], isOf(version))

const file = <A>(f: () => Promise<A>) =>
  Effect.tryPromise({ try: f, catch: system("nats", "its package can't be written") })

const byGo = (version: string) => (folder: string) =>
  Effect.gen(function*() {
    const work = join(folder, "work")
    const env = {
      GOPATH: join(work, "path"),
      GOMODCACHE: join(work, "modules"),
      GOCACHE: join(work, "build"),
      GOBIN: folder,
      GOFLAGS: `${process.env["GOFLAGS"] ?? ""} -modcacherw`.trim(),
      CGO_ENABLED: "0"
    }
    const go = yield* GoToolchain.get(env, advice(defaultVersion))
    yield* Command.expect(go, ["install", `github.com/nats-io/nats-server/v2@v${version}`], {
      env: { ...env, GOTOOLCHAIN: "local" },
      advice: `nats-server ${version} could not be built. ${advice(defaultVersion)}`
    })
    yield* file(() => rm(work, { recursive: true, force: true }))
  })

const byDebian = (folder: string) =>
  Effect.gen(function*() {
    yield* Debian.unpack("nats", "nats-server", folder, advice("2.9"))
    yield* file(() => rename(join(folder, "usr", "sbin", "nats-server"), join(folder, "nats-server")))
    const output = yield* Command.expect(join(folder, "nats-server"), ["--version"])
    if (!output.includes("v2.9.")) {
      yield* new BrokerError({
        broker: "nats",
        reason: "Missing",
        detail: `this system's package is ${output.trim()}, wanted 2.9.`,
        advice: advice("2.9")
      })
    }
  })

/**
 * The path of a nats-server: one on the PATH that fits, else ours from the cache, made the first time.
 *
 * @since 0.1.0
 * @category constructors
 */
export const get = (version: Version): Effect.Effect<string, BrokerError> =>
  Effect.gen(function*() {
    const found = yield* onPath(version)
    if (found !== undefined) return found
    const wanted = version === defaultVersion ? exact : version
    const folder = yield* version === "2.9"
      ? Cache.entry("nats-server-2.9-debian-1", byDebian)
      : Cache.entry(`nats-server-${wanted}-1`, byGo(wanted))
    return join(folder, "nats-server")
  })
