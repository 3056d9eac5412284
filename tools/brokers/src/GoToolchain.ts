/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { chmod, readdir } from "node:fs/promises"
import { join } from "node:path"
import { type BrokerError, system } from "./BrokerError.js"
import * as Command from "./Command.js"
import * as Debian from "./Debian.js"

/** What nats-server 2.15 asks for, and the toolchain that is taken where the installed one is older. */
const needed = { major: 1, minor: 26 }
const exact = "1.26.8"

/**
 * Whether the output of `go version` is of a Go that can build nats-server 2.15.
 *
 * @since 0.1.0
 * @category predicates
 */
export const suffices = (output: string): boolean => {
  const [, major, minor] = /\bgo(\d+)\.(\d+)/.exec(output) ?? []
  if (major === undefined || minor === undefined) return false
  return Number(major) > needed.major || (Number(major) === needed.major && Number(minor) >= needed.minor)
}

const candidates = ["go", "/usr/local/go/bin/go"]

/** Unpacked modules have no executable bits. */
const makeExecutable = (folder: string): Promise<void> =>
  readdir(folder, { withFileTypes: true, recursive: true })
    .then((entries) =>
      Promise.all(
        entries.filter((entry) => entry.isFile()).map((entry) => chmod(join(entry.parentPath, entry.name), 0o755))
      )
    )
    .then(() => undefined)

/**
 * The path of a `go` that can build nats-server 2.15: an installed one that is new enough, else a toolchain that
 * the installed one (on Debian apt's, which is installed when it is missing) downloads as a module. Every Go can do
 * that and checks its sum; only from 1.21 on does it so by itself, and only where `GOTOOLCHAIN` allows it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const get = (
  env: { readonly GOMODCACHE: string } & Readonly<Record<string, string>>,
  advice: string
): Effect.Effect<string, BrokerError> =>
  Effect.gen(function*() {
    const fitting = yield* Command.find(candidates, ["version"], suffices)
    if (fitting !== undefined) return fitting
    const older = yield* Command.find(candidates, ["version"], () => true)
    if (older === undefined) yield* Debian.install("nats", ["golang-go"], advice)
    const go = older ?? "go"
    const architecture = process.arch === "x64" ? "amd64" : process.arch
    const module = `golang.org/toolchain@v0.0.1-go${exact}.${process.platform}-${architecture}`
    yield* Command.expect(go, ["mod", "download", module], { env, advice })
    const root = join(env.GOMODCACHE, module)
    yield* Effect.forEach([join(root, "bin"), join(root, "pkg", "tool")], (folder) =>
      Effect.tryPromise({
        try: () => makeExecutable(folder),
        catch: system("nats", "the Go toolchain can't be made executable")
      }))
    return join(root, "bin", "go")
  })
