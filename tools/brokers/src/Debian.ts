/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { BrokerError } from "./BrokerError.js"
import * as Command from "./Command.js"

const environment = { DEBIAN_FRONTEND: "noninteractive" }
const one = Effect.unsafeMakeSemaphore(1)
let updated = false

const isDebian = () => existsSync("/etc/debian_version")

const update = Effect.gen(function*() {
  if (updated) return
  yield* Command.expect("apt-get", ["update", "-qq"], { env: environment })
  updated = true
})

/**
 * Installs packages when this is root on Debian; elsewhere fails and says what to install by hand.
 *
 * @since 0.1.0
 * @category installing
 */
export const install = (
  broker: string,
  packages: ReadonlyArray<string>,
  advice: string
): Effect.Effect<void, BrokerError> =>
  isDebian() && process.getuid?.() === 0
    ? one.withPermits(1)(Effect.zipRight(
      update,
      Command.expect(
        "apt-get",
        ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", ...packages],
        { env: environment, advice }
      )
    ))
    : new BrokerError({ broker, reason: "Missing", detail: `${packages.join(", ")} not found.`, advice })

/**
 * Unpacks a package below a folder without installing it, so that none of its services is started.
 *
 * @since 0.1.0
 * @category installing
 */
export const unpack = (
  broker: string,
  name: string,
  folder: string,
  advice: string
): Effect.Effect<void, BrokerError> =>
  Effect.gen(function*() {
    if (!isDebian()) {
      return yield* new BrokerError({ broker, reason: "Missing", detail: `${name} comes from Debian here.`, advice })
    }
    const download = Command.expect("apt-get", ["download", name], { cwd: folder, env: environment, advice })
    // The package lists of a fresh machine or image are empty or old; only root can renew them.
    yield* one.withPermits(1)(Effect.catchAll(download, (error) =>
      process.getuid?.() === 0 ? Effect.zipRight(update, download) : Effect.fail(error)))
    yield* Command.expect("sh", ["-c", "dpkg -x ./*.deb . && rm ./*.deb"], { cwd: join(folder) })
  })
