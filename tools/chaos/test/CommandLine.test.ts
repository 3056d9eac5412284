import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import * as CommandLine from "../src/CommandLine.js"

const parse = (text: string) => Effect.runSync(CommandLine.parse(text.split(" ").filter((word) => word !== ""), 99))

const refused = (text: string) => Effect.runSync(Effect.flip(CommandLine.parse(text.split(" "), 99))).message

describe("the command line of a chaos run", () => {
  it("has defaults for each transport", () => {
    expect(parse("").options).toMatchObject({ transport: "kafka", instances: 4, seed: 99 })
    expect(parse("").options.cutEverySeconds).toBeUndefined()
    expect(parse("--transport nats").options).toMatchObject({ instances: 4, partitions: 12 })
    expect(parse("--transport memory --json")).toMatchObject({ json: true, options: { actions: ["kill", "stop"] } })
  })

  it("reads times, shares, ranges and lists", () => {
    const { options } = parse(
      "--kill-every 500ms --fail 2% --handler-ms 3-9 --actions kill --cut --broker-restart --session-timeout 3s --seed 5 --strategy pool:8"
    )
    expect(options).toMatchObject({
      killEverySeconds: 0.5,
      failureRate: 0.02,
      minWorkMs: 3,
      maxWorkMs: 9,
      actions: ["kill"],
      cutEverySeconds: 3,
      restartEverySeconds: 20,
      sessionTimeoutMs: 3_000,
      strategy: "pool:8",
      seed: 5
    })
  })

  it("tells the instances which driver of Kafka to take, beside what a preset sets", () => {
    expect(parse("--driver platformatic").options.settings).toEqual({ EVENTBUS_KAFKA_DRIVER: "platformatic" })
    expect(refused("--driver rdkafka")).toMatch(/--driver: kafkajs, platformatic; not rdkafka/)
    expect(refused("--transport nats --driver platformatic")).toMatch(/--driver: kafka only/)
  })

  it("takes a preset, and what is asked for before it", () => {
    expect(parse("--preset restarts --seconds 30").options).toMatchObject({
      transport: "nats",
      envelopes: 115_000,
      seconds: 30
    })
  })

  it("compares a run in which aggregates are parked with one in which none is, unless it is told not to", () => {
    expect(parse("--park 30")).toMatchObject({ isCompared: true, options: { patients: 30, rate: 1_500 } })
    expect(parse("--park 30 --rate 200 --no-comparison")).toMatchObject({ isCompared: false, options: { rate: 200 } })
    expect(parse("")).toMatchObject({ isCompared: false, options: { patients: 0 } })
    expect(refused("--park 400")).toMatch(/--park: at most 300/)
  })

  it("names what is wrong, and what there is", () => {
    expect(refused("--seconds x")).toMatch(/--seconds: a whole number of at least 1, not x\nnpm run chaos/)
    expect(refused("--fail 200%")).toMatch(/--fail/)
    expect(refused("--handler-ms 5-0")).toMatch(/--handler-ms/)
    expect(refused("--transport rabbit")).toMatch(/--transport: kafka, nats, memory; not rabbit/)
    expect(refused("--transport memory --cut")).toMatch(/kafka or nats only/)
    expect(refused("--transport memory --actions suspend")).toMatch(/can't be suspended/)
    expect(refused("--strategy pool:0")).toMatch(
      /--strategy: actor-per-aggregate, actor-pool, keyed-workers, or pool:8/
    )
    expect(refused("--unknown")).toMatch(/--unknown/)
  })
})
