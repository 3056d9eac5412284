import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect } from "effect"
import { afterAll, describe, expect, inject, it } from "vitest"
import { goals } from "../src/Goals.js"
import type { Job } from "../src/Job.js"
import { steps } from "../src/Load.js"
import * as Measure from "../src/Measure.js"
import { Meter } from "../src/Meter.js"
import { clean as cleanKafka } from "../src/systems/KafkaRaw.js"
import { clean as cleanNats } from "../src/systems/NatsRaw.js"
import { loadOf, workloads } from "../src/Workload.js"

const prefix = `bench.test.${process.pid}.`
const few = 100

const job = (workload: string, system: string, topic: string, steps = few): Job => ({
  workload,
  system,
  // Far more than it takes: each ends when everything is handled.
  seconds: 30,
  steps,
  topic: prefix + topic,
  kafka: inject("kafkaBrokers"),
  nats: inject("natsServers")
})

describe("each workload runs with each of its systems, is complete and in order", () => {
  const filled = new Map<string, Promise<void>>()
  let serial = 0

  for (const workload of workloads) {
    it.concurrent(workload.name, async () => {
      const isLoaded = workload.kind === "consume" && workload.transport !== "memory"
      if (isLoaded && !filled.has(loadOf(workload))) {
        filled.set(
          loadOf(workload),
          Effect.runPromise(Measure.fill(workload, job(workload.name, "ours", loadOf(workload))))
        )
      }
      for (const system of workload.systems) {
        const topic = isLoaded ? loadOf(workload) : `new${serial++}`
        if (isLoaded) await filled.get(topic)
        const steps = workload.kind === "resting"
          ? 3
          : workload.kind === "publish"
          ? Math.max(few >> 1, 2 * workload.batch)
          : few
        const own = job(workload.name, system, topic, steps)
        const measured = await Effect.runPromise(
          Measure.run(workload.kind === "resting" ? { ...own, seconds: 1 } : own)
        )
        expect({ system, ...measured }).toMatchObject({
          system,
          n: steps,
          violations: 0,
          lost: 0
        })
        if (workload.kind === "resting") expect(measured.sockets).toBeGreaterThan(0)
        else if (workload.kind !== "idle") expect(measured.rate).toBeGreaterThan(0)
      }
    }, 60_000)
  }

  afterAll(async () => {
    await cleanKafka(inject("kafkaBrokers"), prefix)
    await cleanNats(inject("natsServers"), prefix)
  })
})

describe.each([["numbers", undefined], ["bytes", 255]])("the meter in %s", (_, most) => {
  const meter = (total: number) => new Meter({ aggregates: 3, total, most, warmUpMs: 0, windowMs: Infinity })

  const run = (of: Meter, ...steps: ReadonlyArray<readonly [number, number]>) => {
    for (const [aggregate, sequence] of steps) {
      of.start(aggregate, sequence)
      of.finish(aggregate)
    }
    return of.read()
  }

  it("finds nothing wrong with aggregates that are in order", () => {
    expect(run(meter(4), [0, 0], [1, 0], [0, 1], [2, 0])).toMatchObject({ handled: 4, violations: 0, lost: 0 })
  })

  it("knows the last of as many as a byte holds from one that comes again", () => {
    const all = Array.from({ length: 255 }, (_, sequence) => [0, sequence] as const)
    expect(run(meter(255), ...all)).toMatchObject({ handled: 255, violations: 0, lost: 0 })
    expect(run(meter(256), ...all, [0, 0]).violations).toBe(1)
    expect(run(meter(256), ...all, [0, 254]).violations).toBe(1)
  })

  it("sees what is overtaken", () => {
    expect(run(meter(3), [0, 0], [0, 2], [0, 1]).violations).toBe(2)
  })

  it("sees what is left out", () => {
    expect(run(meter(2), [0, 0], [0, 2])).toMatchObject({ violations: 1, lost: 1 })
  })

  it("sees what is handled twice", () => {
    expect(run(meter(3), [0, 0], [0, 0], [0, 1]).violations).toBe(1)
  })

  it("sees two of one aggregate at once", () => {
    const overlapping = meter(2)
    overlapping.start(0, 0)
    overlapping.start(0, 1)
    overlapping.finish(0)
    overlapping.finish(0)
    expect(overlapping.read().violations).toBe(1)
  })
})

describe("steps in turn", () => {
  it("go from one aggregate to the next, and round again", () => {
    const next = steps({ aggregates: 3, inTurn: true })
    expect(Array.from({ length: 7 }, () => Object.values(next()))).toEqual(
      [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 2]]
    )
  })
})

describe("the goals", () => {
  it("are all about workloads that there are", () => {
    const names = workloads.map(({ name }) => name)
    expect(goals.filter(({ workload }) => !names.includes(workload))).toEqual([])
  })
})
