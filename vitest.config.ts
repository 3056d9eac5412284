import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

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
  "packages/kafka/test/Truncated.test.ts",
  "packages/nats/test/Changed.test.ts",
  "packages/nats/test/Held.long.test.ts",
  "packages/nats/test/Breaker.long.test.ts",
  "packages/kafka/test/Hostile.long.test.ts",
  "packages/observability/test/Scraped.long.test.ts",
  "packages/kafka/test/Log.test.ts",
  "packages/testing/test/Strategies.test.ts",
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

// The projects are in vitest.workspace.ts.
export default defineConfig({ test: { sequence: { sequencer: LongestFirst } } })
