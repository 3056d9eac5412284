/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { type BrokerError, system } from "./BrokerError.js"
import * as Command from "./Command.js"

/**
 * Whether an engine answers; asked once per process.
 *
 * @since 0.1.0
 * @category probes
 */
export const available: Effect.Effect<boolean> = Effect.runSync(Effect.cached(
  Effect.map(
    Command.find(["docker"], ["info", "--format", "{{.ServerVersion}}"], (output) => /^\d+\./.test(output.trim())),
    (found) => found !== undefined
  )
))

/**
 * A network of its own for a cluster's containers, noted for the warden, which removes it with the folder.
 *
 * @since 0.1.0
 * @category constructors
 */
export const network = (folder: string): Effect.Effect<string, BrokerError> => {
  const name = `eventbus-${randomBytes(6).toString("hex")}`
  return Effect.as(
    Effect.zipRight(
      note(join(folder, "cluster.network"), name),
      Command.expect("docker", ["network", "create", name], { advice })
    ),
    name
  )
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Container {
  readonly name: string
  readonly network: string
  readonly image: string
  /** Published on loopback under the same number. */
  readonly ports: ReadonlyArray<number>
  /** The cluster's folder. */
  readonly folder: string
  /** The folder on this machine that is readable as `/etc/eventbus` inside. */
  readonly config: string
  readonly entrypoint?: string | undefined
  readonly args: ReadonlyArray<string>
}

/**
 * Makes a container without starting it: `docker start --attach` does that, as often as a test wants, with the data
 * of the last time. The warden removes it with the folder.
 *
 * @since 0.1.0
 * @category constructors
 */
export const create = (options: Container): Effect.Effect<void, BrokerError> =>
  Effect.zipRight(
    note(join(options.folder, `${options.name}.container`), options.name),
    Effect.asVoid(Command.expect("docker", [
      "create",
      ...["--name", options.name, "--network", options.network],
      ...options.ports.flatMap((port) => ["-p", `127.0.0.1:${port}:${port}`]),
      ...["-v", `${options.config}:/etc/eventbus:ro`],
      ...(options.entrypoint === undefined ? [] : ["--entrypoint", options.entrypoint]),
      options.image,
      ...options.args
    ], { advice }))
  )

const advice = "Docker answers and could not make this; stop its engine to use packages instead."

const note = (path: string, name: string) =>
  Effect.tryPromise({ try: () => writeFile(path, name), catch: system("docker", `${path} can't be written`) })
