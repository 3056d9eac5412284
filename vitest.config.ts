import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const root = fileURLToPath(new URL(".", import.meta.url))

/** `npm run test:long` sets it: what takes minutes, and what is bigger there than at every commit. */
const isLongRun = process.env["TEST_LONG"] === "1"

/**
 * Two kinds of files are in the long run: those that are named `*.long.test.ts`, which run nowhere else, and those that read `TEST_LONG`,
 * by themselves or in `T.versions`, the servers of NATS's tests.
 */
const isInLongRun = (file: string) =>
  file.endsWith(".long.test.ts") || /TEST_LONG|\bT\.versions\b/.test(readFileSync(file, "utf8"))

const longFiles = (folder: string) =>
  readdirSync(join(root, folder, "test"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join("test", name).replaceAll("\\", "/"))
    .filter((name) => isInLongRun(join(root, folder, name)))

/**
 * The files that take longest, in this order. Two run at a time, and a long one that begins last is waited for by the other worker.
 */
const longest: ReadonlyArray<string> = [
  "tools/chaos/test/Chaos.long.test.ts",
  "packages/testing/test/Model.test.ts",
  "packages/kafka/test/Cluster.test.ts",
  "packages/kafka/test/Failures.test.ts",
  "tools/packages/test/Packed.long.test.ts",
  "packages/nats/test/Conformance.test.ts",
  "tools/brokers/test/Clusters.long.test.ts",
  "tools/chaos/test/Chaos.test.ts",
  "packages/kafka/test/Conformance.test.ts",
  "packages/nats/test/Consume.test.ts",
  "packages/nats/test/Crash.test.ts",
  "examples/test/Examples.test.ts",
  "packages/kafka/test/Log.test.ts",
  "tools/brokers/test/Orphans.long.test.ts",
  "packages/nats/test/Cluster.test.ts",
  "packages/nats/test/Group.test.ts",
  "packages/testing/test/Memory.test.ts",
  "packages/kafka/test/Subscribe.test.ts",
  "packages/kafka/test/Outcomes.test.ts",
  "packages/kafka/test/Damage.test.ts",
  "packages/nats/test/Shared.test.ts",
  "bench/test/Bench.test.ts"
]

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification) => {
      const found = longest.findIndex((name) => moduleId.endsWith(name))
      return found === -1 ? longest.length : found
    }
    return (await super.sort(files)).sort((a, b) => place(a) - place(b))
  }
}

/** Brokers are brought up once for all projects that need them. */
const withBrokers = { globalSetup: [join(root, "tools/brokers/src/vitestSetup.ts")] }

const project = (name: string, folder: string, options: object = {}) => ({
  root: join(root, folder),
  test: {
    name,
    include: isLongRun ? longFiles(folder) : ["test/**/*.test.ts"],
    exclude: isLongRun ? [] : ["test/**/*.long.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    ...options
  }
})

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      project("core", "packages/core"),
      project("testing", "packages/testing"),
      project("kafka", "packages/kafka", withBrokers),
      project("nats", "packages/nats", withBrokers),
      project("examples", "examples", withBrokers),
      project("bench", "bench", withBrokers),
      project("chaos", "tools/chaos"),
      project("brokers", "tools/brokers"),
      project(
        "packages",
        "tools/packages",
        isLongRun ? { globalSetup: [join(root, "tools/packages/test/setup.ts")] } : {}
      )
    ]
  }
})
