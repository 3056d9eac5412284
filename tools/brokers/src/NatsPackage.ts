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
 * The lines of nats-server that can be asked for: today's, and the oldest that the library supports.
 *
 * @since 0.1.0
 * @category models
 */
export type Version = "2.15" | "2.9"

const exact = "2.15.2"

const advice = (version: Version) =>
  `Put nats-server ${version} on the PATH, ` +
  (version === "2.15" ? "install Go, " : "use Debian 12 (its package nats-server), ") +
  "start Docker, or name a running server in TEST_NATS_SERVERS."

const onPath = (version: Version) =>
  Command.find(["nats-server"], ["--version"], (output) => output.includes(`v${version}.`))

const file = <A>(f: () => Promise<A>) =>
  Effect.tryPromise({ try: f, catch: system("nats", "its package can't be written") })

const byGo = (folder: string) =>
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
    const go = yield* GoToolchain.get(env, advice("2.15"))
    yield* Command.expect(go, ["install", `github.com/nats-io/nats-server/v2@v${exact}`], {
      env: { ...env, GOTOOLCHAIN: "local" },
      advice: advice("2.15")
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
    const folder = yield* version === "2.15"
      ? Cache.entry(`nats-server-${exact}-1`, byGo)
      : Cache.entry("nats-server-2.9-debian-1", byDebian)
    return join(folder, "nats-server")
  })
