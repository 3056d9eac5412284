/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises"
import { homedir } from "node:os"
import { join } from "node:path"
import { type BrokerError, system } from "./BrokerError.js"

/**
 * The one folder that downloads live in: `EFFECT_EVENTBUS_CACHE`, or `effect-eventbus` in the user's cache folder.
 *
 * @since 0.1.0
 * @category paths
 */
export const folder = (): string =>
  process.env["EFFECT_EVENTBUS_CACHE"] ??
    join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "effect-eventbus")

const building = ".building-"
const abandonedAfterMillis = 60 * 60 * 1000
const locks = new Map<string, Effect.Semaphore>()

const lock = (name: string): Effect.Semaphore => {
  const known = locks.get(name)
  if (known !== undefined) return known
  const made = Effect.unsafeMakeSemaphore(1)
  locks.set(name, made)
  return made
}

const attempt = <A>(what: string, f: () => Promise<A>) => Effect.tryPromise({ try: f, catch: system("cache", what) })

const removeAbandoned = (root: string) =>
  attempt("old build folders can't be removed", async () => {
    for (const name of await readdir(root)) {
      if (!name.startsWith(building)) continue
      const path = join(root, name)
      const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOENT") return undefined
        throw cause
      })
      if (found !== undefined && Date.now() - found.mtimeMs > abandonedAfterMillis) {
        await rm(path, { recursive: true, force: true })
      }
    }
  })

/** Another run may have finished the same entry first; then its result is as good as ours. */
const publish = (from: string, to: string) =>
  attempt(`${to} can't be made`, () =>
    rename(from, to).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOTEMPTY" || cause.code === "EEXIST") return
      throw cause
    }))

/**
 * The folder of a cached download, built when it isn't there. It is built beside its place and renamed, so two runs
 * at once can't see or make half an entry. The name carries the version.
 *
 * @since 0.1.0
 * @category constructors
 */
export const entry = (
  name: string,
  build: (folder: string) => Effect.Effect<void, BrokerError>
): Effect.Effect<string, BrokerError> => {
  const root = folder()
  const path = join(root, name)
  const make = Effect.acquireUseRelease(
    attempt(`the cache folder ${root} can't be written (EFFECT_EVENTBUS_CACHE names another)`, async () => {
      await mkdir(root, { recursive: true })
      return await mkdtemp(join(root, `${building}${name}-`))
    }),
    (temporary) => Effect.zipRight(build(temporary), publish(temporary, path)),
    (temporary) => Effect.promise(() => rm(temporary, { recursive: true, force: true }))
  )
  return lock(path).withPermits(1)(Effect.suspend(() =>
    existsSync(path)
      ? Effect.succeed(path)
      : Effect.as(Effect.tap(make, () => removeAbandoned(root)), path)
  ))
}
