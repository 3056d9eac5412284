/** Packs each public package as a release would, and installs the tarballs as README and the guides say. */
import { mkdtemp, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import * as Consumer from "./Consumer.js"
import type {} from "./given.js"

const { packages, root, run, tsc } = Consumer

const make = async (folder: string): Promise<Consumer.Given> => {
  const project = join(folder, "project")
  const { devDependencies, packageManager } = await Consumer.manifestOf(join(root, "package.json"))

  // What an older build left would be packed, too.
  for (const name of packages) await rm(join(root, "packages", name, "dist"), { recursive: true, force: true })
  await run(root, process.execPath, tsc, "-b", ...packages.map((name) => `packages/${name}/tsconfig.src.json`))
  for (const name of packages) {
    await run(join(root, "packages", name), "npx", "-y", packageManager, "pack", "--pack-destination", folder)
  }
  const packed = await readdir(folder)
  const tarballs = Object.fromEntries(packages.map((name) => [
    `@effect-eventbus/${name}`,
    join(folder, packed.find((file) => file.startsWith(`effect-eventbus-${name}-`))!)
  ]))

  await Consumer.emptyProject(project)
  for (const document of await Consumer.guides()) {
    for (const line of Consumer.installLines(await Consumer.documentOf(document))) {
      await Consumer.install(project, tarballs, line)
    }
  }
  // What a project in TypeScript has anyway.
  await Consumer.install(project, {}, `npm install --save-dev @types/node@${devDependencies["@types/node"]}`)
  return { project, tarballs }
}

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "effect-eventbus-packages-"))
  provide("consumer", await make(folder).catch((error: Error) => ({ failure: error.message })))
  return () => rm(folder, { recursive: true, force: true })
}
