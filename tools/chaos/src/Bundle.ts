/**
 * The programs of a run as one file each, made once: an instance that compiled TypeScript whenever it starts would take
 * seconds from the others, and the run would measure the compiler.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { Plugin } from "esbuild"
import { build } from "esbuild"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

export class BundleFailed extends Data.TaggedError("BundleFailed")<{ readonly cause: unknown }> {
  override get message() {
    return `The programs of the run can't be bundled: ${String(this.cause)}`
  }
}

export type Program = "worker" | "publisher"

/** Where a program lies in the folder that was bundled to. */
export const path = (folder: string, program: Program): string => join(folder, `${program}.cjs`)

/** It finds its WebAssembly by its own address, so it is loaded from where it lies. */
const platformatic: Plugin = {
  name: "platformatic",
  setup: ({ onResolve, resolve }) =>
    onResolve({ filter: /^@platformatic\/kafka$/ }, async ({ kind, path, pluginData, resolveDir }) => {
      if (pluginData === platformatic) return undefined
      const found = await resolve(path, { kind, resolveDir, pluginData: platformatic })
      return found.errors.length > 0 ? found : { path: pathToFileURL(found.path).href, external: true }
    })
}

export const make = (folder: string): Effect.Effect<void, BundleFailed> =>
  Effect.tryPromise({
    try: () =>
      build({
        entryPoints: ["worker", "publisher"].map((name) =>
          fileURLToPath(new URL(`./programs/${name}.ts`, import.meta.url))
        ),
        outdir: folder,
        outExtension: { ".js": ".cjs" },
        bundle: true,
        platform: "node",
        format: "cjs",
        target: "node20",
        // Native add-ons can't be bundled; those that are optional are looked for in vain, as they may be.
        external: ["*.node"],
        plugins: [platformatic],
        logLevel: "silent"
      }),
    catch: (cause) => new BundleFailed({ cause })
  })
