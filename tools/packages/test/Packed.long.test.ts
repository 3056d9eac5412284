/** The packages as they are published, used from an empty project outside the workspace. */
import { copyFile, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import * as Consumer from "./Consumer.js"
import { given } from "./given.js"

const { codeOf, manifestOf, packages, root, run } = Consumer

const filesBelow = async (folder: string): Promise<ReadonlyArray<string>> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) =>
    join(entry.parentPath, entry.name).slice(folder.length + 1).replaceAll("\\", "/")
  )
}

/**
 * The programs of the guides: what has imports is complete, unless it imports what only its reader has. The types of `nats` itself
 * don't pass `exactOptionalPropertyTypes`, and those of `@effect/platform-node` ask for the types of `ws`. What is left out here is an example.
 */
const programsOfGuides = async (): Promise<ReadonlyArray<string>> => {
  const documents = await Promise.all((await Consumer.guides()).map(Consumer.documentOf))
  return documents.flatMap((document) => codeOf(document)).filter((code) =>
    /^ *import /m.test(code) && !/ from "(\.|@bokuweb\/|aws-|nats"|@effect\/platform-node")/.test(code)
  )
}

/** The start of a script that can't load vitest, as in a program that is no test. */
const withoutVitest = `
  import { register } from "node:module"
  const hooks = \`export const resolve = (specifier, context, next) => {
    if (/^(@effect[/])?vitest/.test(specifier)) throw new Error("there is no " + specifier)
    return next(specifier, context)
  }\`
  register("data:text/javascript," + encodeURIComponent(hooks))`

/** What operators copy from a package. */
const filesForOperators: Readonly<Record<string, ReadonlyArray<string>>> = {
  observability: ["grafana/eventbus.json", "prometheus/kafka.rules.yml", "prometheus/nats.rules.yml"]
}

describe("the packed tarballs", () => {
  const { project } = given()
  const installed = (name: string) => join(project, "node_modules", "@effect-eventbus", name)

  const vitest = async (...args: ReadonlyArray<string>): Promise<Record<string, number>> => {
    const binary = join("node_modules", "vitest", "vitest.mjs")
    return JSON.parse(await run(project, process.execPath, binary, "run", "--reporter=json", ...args))
  }

  it.each(packages)("%s holds its sources, what was built from them, and nothing else", async (name) => {
    const files = await filesBelow(installed(name))
    const sources = files.filter((file) => /^src\/.*\.ts$/.test(file))
    const modules = sources.filter((file) => !file.endsWith(".d.ts")).map((file) => file.slice(4, -3))

    expect(await filesBelow(join(root, "packages", name, "src"))).toHaveLength(sources.length)
    expect(files.filter((file) => !file.startsWith("src/")).sort()).toEqual([
      ...["LICENSE", "README.md", "package.json"],
      ...(filesForOperators[name] ?? []),
      ...modules.flatMap((file) => [".d.ts", ".d.ts.map", ".js", ".js.map"].map((end) => `dist/${file}${end}`))
    ].sort())
  })

  it.each(packages)("%s asks for versions that a registry knows", async (name) => {
    const manifest = await manifestOf(join(installed(name), "package.json"))
    const versions = Object.values({ ...manifest.dependencies, ...manifest.peerDependencies })
    expect(versions.filter((version) => !/^[\^~<]?\d/.test(version))).toEqual([])
    expect(versions.length).toBeGreaterThan(0)
  })

  it("let strict programs be type-checked, with their own types checked too, and run by plain Node", async () => {
    for (const name of ["consumer.ts", "transports.ts", "transport.test.ts"]) {
      await copyFile(new URL(`../fixture/${name}`, import.meta.url), join(project, name))
    }
    for (const name of packages) {
      const [first, ...others] = codeOf(await readFile(join(installed(name), "README.md"), "utf8"))
      await writeFile(join(project, `readme-${name}.ts`), first!)
      for (const [i, code] of others.entries()) await writeFile(join(project, `readme-${name}-${i}.ts`), code)
    }
    const guides = await programsOfGuides()
    expect(guides.length).toBeGreaterThan(8)
    for (const [i, code] of guides.entries()) await writeFile(join(project, `guide-${i}.ts`), code)
    await Consumer.compile(project)
    expect(JSON.parse(await run(project, process.execPath, join("out", "consumer.js")))).toEqual([
      "a click",
      "order-1 OrderPlaced",
      "order-1 OrderShipped"
    ])
    expect(await run(project, process.execPath, join("out", "transports.js"))).toBe("memory\n")
    expect(await run(project, process.execPath, join("out", "readme-core.js"))).toBe("12\n")
    // README's program is the first of all. Its two topics have no order between them.
    const printed = (await run(project, process.execPath, join("out", "guide-0.js"))).trim().split("\n")
    expect(printed.filter((line) => line.startsWith("order"))).toEqual([
      "order-42: OrderPlaced",
      "order-42: OrderShipped"
    ])
    expect(printed.sort()).toEqual(["a click on /pricing", "order-42: OrderPlaced", "order-42: OrderShipped"])
  }, 300_000)

  it.each(packages)("%s is loaded by a bare import, also where there is no vitest", async (name) => {
    const script = `${withoutVitest}
      console.log(JSON.stringify(Object.keys(await import("@effect-eventbus/${name}"))))`
    const names: unknown = JSON.parse(await run(project, process.execPath, "--input-type=module", "--eval", script))
    expect(names).toContain(
      {
        core: "EventBus",
        kafka: "KafkaTransport",
        nats: "NatsTransport",
        observability: "Metrics",
        testing: "OrderOracle"
      }[name]
    )
  })

  it("let a user test handlers in virtual time, as the README of testing does", async () => {
    await copyFile(join(project, "readme-testing.ts"), join(project, "handlers.test.ts"))
    expect(await vitest("handlers.test.ts", "--testNamePattern", "an order is handled")).toMatchObject({
      numFailedTests: 0,
      numPassedTests: 1
    })
  }, 300_000)

  it("let a transport of one's own be judged by the suite", async () => {
    // The longest tests of the suite say nothing more about how it is packed.
    const pattern = "rule (1|2|3|9|10|11): (?!.*(100,000|5000|10000))"
    const { numFailedTests, numPassedTests } = await vitest("transport.test.ts", "--testNamePattern", pattern)
    expect(numFailedTests).toBe(0)
    expect(numPassedTests).toBeGreaterThan(10)
  }, 300_000)

  it("keep their internal modules to themselves", async () => {
    const script = `await import("@effect-eventbus/core/internal/slot")`
    await expect(run(project, process.execPath, "--input-type=module", "--eval", script)).rejects.toThrow(
      "ERR_PACKAGE_PATH_NOT_EXPORTED"
    )
  })
})
