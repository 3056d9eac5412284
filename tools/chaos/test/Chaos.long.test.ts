import { expect, it } from "vitest"
import { run } from "./run.js"

it(
  "memory: half a minute of instances that die without a chance to settle",
  async ({ signal }) => {
    await run(signal, { transport: "memory", instances: 3, seconds: 30, killEverySeconds: 1.5 })
  },
  180_000
)

it(
  "memory: instances die without a chance to settle, with eight slots that all aggregates share",
  async ({ signal }) => {
    await run(signal, { transport: "memory", instances: 3, seconds: 6, killEverySeconds: 1.5, strategy: "pool:8" })
  },
  60_000
)

it(
  "kafka: half a minute of a group whose instances are killed and stopped",
  async ({ signal }) => {
    await run(signal, { transport: "kafka", instances: 2, seconds: 30, actions: ["kill", "stop"] })
  },
  300_000
)

it(
  "kafka: half a minute in which connections break and the broker is killed as well",
  async ({ signal }) => {
    const result = await run(signal, {
      transport: "kafka",
      instances: 2,
      seconds: 30,
      actions: ["kill", "stop"],
      killEverySeconds: 5,
      cutEverySeconds: 2,
      restartEverySeconds: 10
    })
    expect(result.cuts).toBeGreaterThan(0)
    expect(result.brokerRestarts).toBeGreaterThan(0)
  },
  300_000
)

it(
  "nats: half a minute in which the one instance of a group is killed and started again",
  async ({ signal }) => {
    await run(signal, { transport: "nats", seconds: 30, actions: ["kill"] })
  },
  300_000
)

it("nats: half a minute in which connections break and the server is killed as well", async ({ signal }) => {
  const result = await run(signal, {
    transport: "nats",
    seconds: 30,
    cutEverySeconds: 2,
    restartEverySeconds: 8,
    killEverySeconds: 4
  })
  expect(result.cuts).toBeGreaterThan(0)
  expect(result.brokerRestarts).toBeGreaterThan(0)
}, 300_000)

for (const transport of ["kafka", "nats"] as const) {
  it(
    `${transport}: half a minute in which each instance switches its strategy while instances are killed`,
    async ({ signal }) => {
      await run(signal, {
        transport,
        instances: 2,
        seconds: 30,
        actions: ["kill", "stop"],
        killEverySeconds: 5,
        switchEverySeconds: 1
      })
    },
    300_000
  )
}

it(
  "kafka: instances that are killed or suspended before they got to work, again and again: no start fails, and all is handled",
  async ({ signal }) => {
    await run(signal, {
      transport: "kafka",
      instances: 3,
      seconds: 20,
      killEverySeconds: 2,
      relentless: true,
      actions: ["kill", "suspend"]
    })
  },
  180_000
)

for (const transport of ["memory", "kafka", "nats"] as const) {
  it(
    `${transport}: half a minute in which a tenth of the aggregates fail for a time, and are parked and released while instances are killed`,
    async ({ signal }) => {
      const { letters } = await run(signal, {
        transport,
        instances: 3,
        aggregates: 300,
        patients: 30,
        rate: 1_000,
        seconds: 25,
        killEverySeconds: 5,
        actions: ["kill", "stop"],
        sessionTimeoutMs: 2_000
      })
      // The order over parking and release is judged with all the rest. All that was parked is handled, and nothing is left.
      expect(letters).toMatchObject({ left: 0, released: letters.parked })
      expect(letters.parked).toBeGreaterThan(100)
    },
    180_000
  )
}
