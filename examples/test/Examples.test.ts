import type {} from "@effect-eventbus/brokers/vitestSetup"
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, inject, it } from "vitest"
import { file, render, sources } from "../scripts/configDocs.js"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** Runs an example as a user does, without settings from the environment of the tests. */
const run = async (example: string, args: ReadonlyArray<string> = [], settings: Record<string, string> = {}) => {
  const clean = Object.entries(process.env).filter(([name]) => !/^(EVENTBUS_|VITEST|NODE_ENV)/.test(name))
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", `examples/src/${example}.ts`, ...args],
    { cwd: root, env: { ...Object.fromEntries(clean), ...settings }, timeout: 120_000 }
  )
  return stdout
}

describe("the examples", () => {
  it("README's program is examples/src/quickstart.ts, and prints what README says", async () => {
    const readme = readFileSync(`${root}README.md`, "utf8")
    const quickstart = readFileSync(`${root}examples/src/quickstart.ts`, "utf8").trimEnd()
    expect(readme).toContain(`\`\`\`ts\n${quickstart}\n\`\`\``)
    const lines = (await run("quickstart")).trim().split("\n")
    // The two topics have no order between them.
    expect(lines.slice().sort()).toEqual(["a click on /pricing", "order-42: OrderPlaced", "order-42: OrderShipped"])
    expect(lines.indexOf("order-42: OrderPlaced")).toBeLessThan(lines.indexOf("order-42: OrderShipped"))
    expect(readme).toContain("order-42: OrderPlaced\na click on /pricing\norder-42: OrderShipped")
  })

  it("failure-handling shows each way that a failure can go", async () => {
    const lines = (await run("failure-handling")).trim().split("\n")
    expect(lines.filter((line) => line.startsWith("paid"))).toEqual([
      "paid 1 at attempt 1",
      "paid 2 at attempt 3",
      "paid 5 at attempt 2"
    ])
    expect(lines).toContain("given up: DeadLetter after 1 attempt(s)")
    expect(lines).toContain("given up: Drop after 1 attempt(s)")
    expect(lines).toContain("dead letter: 3, because of CardStolen")
  })

  it("parking releases an order, and docs/parking.md shows the program and what it prints", async () => {
    const example = readFileSync(`${root}examples/src/parking.ts`, "utf8").trimEnd()
    const docs = readFileSync(`${root}docs/parking.md`, "utf8")
    expect(docs).toContain(`\`\`\`ts\n${example}\n\`\`\``)
    const shown = /```text\n([^`]*)\n```/.exec(docs)![1]!.split("\n")
    const lines = (await run("parking")).trim().split("\n")
    // The two orders are handled side by side.
    expect([...lines].sort()).toEqual([...shown].sort())
    expect(lines.slice(4)).toEqual(shown.slice(4))
  }, 60_000)

  it("circuits waits for its database, and docs/circuits.md shows the program", async () => {
    const example = readFileSync(`${root}examples/src/circuits.ts`, "utf8").trimEnd()
    expect(readFileSync(`${root}docs/circuits.md`, "utf8")).toContain(`\`\`\`ts\n${example}\n\`\`\``)
    const lines = (await run("circuits")).trim().split("\n")
    expect(lines.filter((line) => line.startsWith("database"))).toEqual([
      "database is open (DatabaseDown: connection refused)",
      "database is closed (DatabaseDown: connection refused)"
    ])
    for (const account of ["account-1", "account-2"]) {
      expect(lines.filter((line) => line.startsWith(account))).toEqual([1, 2, 3].map((n) => `${account}: ${n}`))
    }
    expect(lines).toContain("handled: 6, dead letters: 0")
  })

  it("dead-letters discards and releases, and docs/dead-letters.md shows the program and what it prints", async () => {
    const example = readFileSync(`${root}examples/src/dead-letters.ts`, "utf8").trimEnd()
    const docs = readFileSync(`${root}docs/dead-letters.md`, "utf8")
    expect(docs).toContain(`\`\`\`ts\n${example}\n\`\`\``)
    const shown = /```text\n([^`]*)\n```/.exec(docs)![1]!.split("\n")
    const lines = (await run("dead-letters")).trim().split("\n")
    // The release does not wait for the handlers.
    expect([...lines].sort()).toEqual([...shown].sort())
    expect(lines.filter((line) => line.startsWith("account"))).toEqual(shown.slice(1, 4))
  }, 60_000)

  it("docs/poison.md shows examples/src/poison.ts", () => {
    const example = readFileSync(`${root}examples/src/poison.ts`, "utf8").trimEnd()
    expect(readFileSync(`${root}docs/poison.md`, "utf8")).toContain(`\`\`\`ts\n${example}\n\`\`\``)
  })

  it("configuration reads YAML and refuses an unknown key", async () => {
    const output = await run("configuration")
    expect(output).toContain("published to clicks")
    expect(output).toContain("eventbus.retryTime: unknown setting (did you mean \"retryTimes\"?)")
    expect(output).toContain("eventbus.memory.maxMessages: expected a whole number of at least 1, got none")
    const example = readFileSync(`${root}examples/src/configuration.ts`, "utf8").trimEnd()
    expect(readFileSync(file, "utf8")).toContain(`\`\`\`ts\n${example}\n\`\`\``)
    // The environment goes first, and the default of a program is its own.
    const switched = run("configuration", [], { EVENTBUS_TRANSPORT: "kafka" })
    await expect(switched).rejects.toThrow("kafka.brokers")
  })

  it("docs/testing.md shows the handlers and the tests that are run here", () => {
    const document = readFileSync(`${root}docs/testing.md`, "utf8")
    for (const shown of ["src/shipping.ts", "test/Shipping.test.ts"]) {
      expect(document).toContain(`\`\`\`ts\n${readFileSync(`${root}examples/${shown}`, "utf8").trimEnd()}\n\`\`\``)
    }
  })

  it("docs/kafka.md shows the codecs that the tests of Kafka use", () => {
    const tested = readFileSync(`${root}packages/kafka/test/codecs.ts`, "utf8")
    const codecs = /^const ready = .*?^}$/ms.exec(tested.replace("export const", "const"))![0]
    expect(readFileSync(`${root}docs/kafka.md`, "utf8")).toContain(codecs)
  })

  it("the tables of docs/configuration.md and the comments of the settings are those of the code", () => {
    const document = readFileSync(file, "utf8")
    expect(render(document)).toBe(document)
    for (const { file, render } of sources) {
      const source = readFileSync(file, "utf8")
      expect(render(source)).toBe(source)
    }
  })
})

describe("the main job", () => {
  const settings = {
    memory: () => ({}),
    kafka: () => ({ EVENTBUS_KAFKA_BROKERS: inject("kafkaBrokers").join(",") }),
    nats: () => ({ EVENTBUS_NATS_SERVERS: inject("natsServers").join(",") })
  }

  for (const transport of ["memory", "kafka", "nats"] as const) {
    it(`loses and reorders nothing on ${transport}`, async () => {
      const output = await run("main", ["--transport", transport, "--json"], settings[transport]())
      const summary = JSON.parse(output.trim().split("\n").at(-1)!) as Record<string, number>
      expect(Object.keys(summary)).toEqual([
        "transport",
        "published",
        "handled",
        "aggregates",
        "retried",
        "restarted",
        "deadLettered",
        "lost",
        "violations",
        "seconds"
      ])
      expect(summary).toMatchObject({ transport, published: 6_000, aggregates: 400, lost: 0, violations: 0 })
      expect(summary.retried).toBeGreaterThan(0)
      expect(summary.restarted).toBeGreaterThan(0)
      expect(summary.deadLettered).toBeGreaterThan(0)
      expect(summary.handled! + summary.deadLettered!).toBe(6_000)
    }, 120_000)
  }

  it("moves to another strategy while it runs, and back from one that makes it slower", async () => {
    const job = async (...args: ReadonlyArray<string>) =>
      JSON.parse((await run("main", ["--json", "--events", "12000", ...args])).trim().split("\n").at(-1)!) as unknown
    expect(await job("--dispatch", "keyed-workers", "--canary", "actor-pool", "--slow-canary", "50")).toMatchObject({
      lost: 0,
      violations: 0,
      canary: {
        candidate: "actor-pool",
        status: "rolled-back",
        share: 0,
        reasons: expect.arrayContaining([expect.stringMatching(/^p99: /)]) as unknown
      }
    })
  }, 120_000)

  it("refuses a strategy that there is not", async () => {
    await expect(run("main", ["--canary", "threads"])).rejects.toMatchObject({
      stdout: expect.stringContaining("\"threads\" is no strategy") as unknown
    })
  })
})
