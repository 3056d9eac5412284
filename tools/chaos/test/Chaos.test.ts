import { expect, it } from "vitest"
import { run } from "./run.js"

// Longer runs, and those with kills only: Chaos.long.test.ts.

it(
  "memory: instances die without a chance to settle, and nothing is lost, overtaken or overlaps",
  async ({ signal }) => {
    await run(signal, { transport: "memory", instances: 3, seconds: 6, killEverySeconds: 1.5 })
  },
  60_000
)

it(
  "memory: the same while each instance switches its strategy, for all aggregates or a share of them",
  async ({ signal }) => {
    await run(signal, {
      transport: "memory",
      instances: 2,
      seconds: 6,
      killEverySeconds: 1.5,
      switchEverySeconds: 0.1
    })
  },
  60_000
)

it(
  "kafka: instances are killed and stopped, connections break, the broker is killed, and nothing is lost, overtaken or overlaps",
  async ({ signal }) => {
    const result = await run(signal, {
      transport: "kafka",
      instances: 2,
      actions: ["kill", "stop"],
      killEverySeconds: 5,
      cutEverySeconds: 2,
      restartEverySeconds: 5
    })
    expect(result.cuts).toBeGreaterThan(0)
    expect(result.brokerRestarts).toBeGreaterThan(0)
  },
  150_000
)

it(
  "nats: the instance is killed, connections break, the server is killed, and nothing is lost or overtaken",
  async ({ signal }) => {
    const result = await run(signal, {
      transport: "nats",
      cutEverySeconds: 2,
      restartEverySeconds: 4,
      killEverySeconds: 4
    })
    expect(result.cuts).toBeGreaterThan(0)
    expect(result.brokerRestarts).toBeGreaterThan(0)
  },
  150_000
)
