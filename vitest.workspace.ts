import { defineWorkspace } from "vitest/config"

/** Brokers are brought up once for all projects that need them. */
const withBrokers = { globalSetup: [new URL("./tools/brokers/src/vitestSetup.ts", import.meta.url).pathname] }

const project = (name: string, root: string, options: object = {}) => ({
  root,
  test: {
    name,
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    ...options
  }
})

export default defineWorkspace([
  project("core", "packages/core"),
  project("testing", "packages/testing"),
  project("kafka", "packages/kafka", withBrokers),
  project("nats", "packages/nats", withBrokers),
  project("examples", "examples", withBrokers),
  project("bench", "bench", withBrokers),
  project("chaos", "tools/chaos"),
  project("brokers", "tools/brokers"),
  project("packages", "tools/packages")
])
