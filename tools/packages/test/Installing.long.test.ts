/** The lines of the documents that install something, followed to the letter. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as Consumer from "./Consumer.js"
import { given } from "./given.js"

const { project, tarballs } = given()

const versionOf = async (folder: string, name: string): Promise<string> =>
  JSON.parse(await readFile(join(folder, "node_modules", name, "package.json"), "utf8")).version

describe("a line that installs", () => {
  it("says the version of everything that is not ours: npm's latest is for another Effect, or for another Node", async () => {
    const documents = [...await Consumer.guides(), ...Consumer.packages.map(Consumer.readmeOf)]
    const lines = (await Promise.all(documents.map(Consumer.documentOf))).flatMap(Consumer.installLines)
    const words = lines.flatMap((line) => line.split(/\s+/).slice(2)).filter((word) => !word.startsWith("-"))
    expect(words.filter((word) => !word.startsWith("@effect-eventbus/") && !/.@\d/.test(word))).toEqual([])
    expect(lines.length).toBeGreaterThanOrEqual(7)
  })

  it("gives a project what fits together, by all lines of README and the guides", async () => {
    // It fails where a peer is missing or of a version that does not fit.
    await Consumer.run(project, "npm", "ls", "--all")
    expect(await versionOf(project, "effect")).toMatch(/^3\.(2[2-9]|[3-9]\d)\./)
    expect(await versionOf(project, "vitest")).toMatch(/^3\./)
  })
})

describe.each(Consumer.packages)("the README of %s", (name) => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "effect-eventbus-readme-"))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it("installs what its programs need", async () => {
    const own = join(folder, "project")
    await Consumer.emptyProject(own)
    const readme = await Consumer.documentOf(Consumer.readmeOf(name))
    for (const line of Consumer.installLines(readme)) await Consumer.install(own, tarballs, line)
    await Consumer.run(own, "npm", "ls", "--all")
    expect(await versionOf(own, "effect")).toMatch(/^3\.(2[2-9]|[3-9]\d)\./)

    const { devDependencies } = await Consumer.manifestOf(join(Consumer.root, "package.json"))
    await Consumer.install(own, {}, `npm install --save-dev @types/node@${devDependencies["@types/node"]}`)
    const programs = Consumer.codeOf(readme)
    expect(programs.length).toBeGreaterThan(0)
    for (const [i, code] of programs.entries()) await writeFile(join(own, `program-${i}.ts`), code)
    await Consumer.compile(own)
    if (name === "core") {
      expect(await Consumer.run(own, process.execPath, join("out", "program-0.js"))).toBe("12\n")
    }
  }, 300_000)
})
