import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { defineWorkspace } from "vitest/config"

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

/** Brokers are brought up once for all projects that need them. */
const withBrokers = { globalSetup: [join(root, "tools/brokers/src/vitestSetup.ts")] }

/** `npm run test:nats3` sets it: what of NATS's tests is about the client runs on the successors of the package `nats`. */
const onSuccessor = process.env["TEST_NATS_SUCCESSOR"] === "1"
  ? { resolve: { alias: [{ find: /^nats$/, replacement: join(root, "packages/nats/test/successor/nats.ts") }] } }
  : {}

const project = (name: string, folder: string, options: object = {}, more: object = {}) => ({
  ...more,
  root: join(root, folder),
  test: {
    name,
    include: isLongRun ? longFiles(folder) : ["test/**/*.test.ts"],
    // With another driver of Kafka what is run is named one by one.
    exclude: isLongRun || process.env["TEST_KAFKA_DRIVER"] !== undefined ? [] : ["test/**/*.long.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    ...options
  }
})

export default defineWorkspace([
  project("core", "packages/core"),
  project("testing", "packages/testing"),
  project("kafka", "packages/kafka", withBrokers),
  project("nats", "packages/nats", withBrokers, onSuccessor),
  project("observability", "packages/observability", withBrokers),
  project("examples", "examples", withBrokers),
  project("bench", "bench", withBrokers),
  project("chaos", "tools/chaos"),
  project("brokers", "tools/brokers"),
  project(
    "packages",
    "tools/packages",
    isLongRun ? { globalSetup: [join(root, "tools/packages/test/setup.ts")] } : {}
  )
])
