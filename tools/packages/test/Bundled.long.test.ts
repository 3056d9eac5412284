/** One file of everything, as programs are often shipped: esbuild makes it, and it runs where there are no packages. */
import { build } from "esbuild"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import * as Consumer from "./Consumer.js"
import { given } from "./given.js"

const { project } = given()

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "effect-eventbus-bundles-"))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it.each([["esm", "mjs"], ["cjs", "cjs"]] as const)(
  "esbuild makes one %s file of a program with all three transports, which needs no further option to run",
  async (format, end) => {
    const [program] = Consumer.codeOf(await Consumer.documentOf("README.md"))
    // CommonJS has no await at the top.
    await writeFile(join(project, "bundled.ts"), program!.replace(/^await /m, "void "))
    const outfile = join(folder, `program.${end}`)
    const { warnings } = await build({
      absWorkingDir: project,
      entryPoints: ["bundled.ts"],
      outfile,
      bundle: true,
      platform: "node",
      target: "node20",
      format,
      logLevel: "silent"
    })
    expect(warnings).toEqual([])
    const printed = (await Consumer.run(folder, process.execPath, outfile)).trim().split("\n")
    // The two topics have no order between them.
    expect(printed.filter((line) => line.startsWith("order"))).toEqual([
      "order-42: OrderPlaced",
      "order-42: OrderShipped"
    ])
    expect(printed).toContain("a click on /pricing")
  },
  60_000
)

it("a program on memory alone is bundled without the brokers' clients", async () => {
  const contents = Consumer.codeOf(await Consumer.documentOf(Consumer.readmeOf("core")))[0]!
  const { metafile } = await build({
    stdin: { contents, resolveDir: project, loader: "ts" },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    write: false,
    metafile: true,
    outfile: join(folder, "memory.mjs"),
    logLevel: "silent"
  })
  expect(Object.keys(metafile.inputs).filter((file) => /node_modules\/(kafkajs|nats)\//.test(file))).toEqual([])
}, 60_000)
