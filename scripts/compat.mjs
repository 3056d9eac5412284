import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { cpus, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { clearTimeout, setTimeout } from "node:timers"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { ensureInstalled, root } from "./lib/install.mjs"

/**
 * Runs the conformance suite and a short chaos run on each version of a broker, one after the other, and prints a table for the docs.
 * The brokers are the genuine ones (tools/brokers), fetched the first time. It ends with 1 when a law was broken anywhere, or a version
 * that is to be had does not run.
 */
const usage =
  `npm run compat -- [--transport kafka|nats] [--driver kafkajs|platformatic] [--versions 3.9.1,4.0.1] [--seconds 20] [--seed 1]`

const VERSIONS = {
  kafka: ["3.3.2", "3.9.1", "4.0.2", "4.4.0"],
  nats: ["2.9", "2.10.27", "2.11.3", "2.11.17", "2.12.15", "2.15.3"]
}
/** Of one version and one kind of run; whoever hangs has failed. */
const TIMEOUT_MS = { broker: 600_000, conformance: 900_000, chaos: 300_000 }

const options = () => {
  try {
    const { values } = parseArgs({
      options: {
        transport: { type: "string" },
        driver: { type: "string" },
        versions: { type: "string" },
        seconds: { type: "string", default: "20" },
        seed: { type: "string", default: "1" }
      }
    })
    const transports = values.transport === undefined ? Object.keys(VERSIONS) : [values.transport]
    if (!transports.every((name) => name in VERSIONS)) {
      throw new Error(`--transport: kafka or nats, not ${values.transport}`)
    }
    if (values.versions !== undefined && values.transport === undefined) {
      throw new Error("--versions: of which --transport?")
    }
    if (values.driver !== undefined && values.transport !== "kafka") {
      throw new Error("--driver: of --transport kafka only")
    }
    for (const name of ["seconds", "seed"]) {
      if (!(Number(values[name]) >= 1)) throw new Error(`--${name}: a number of at least 1, not ${values[name]}`)
    }
    return { ...values, transports }
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage}\n`)
    process.exit(1)
  }
}

const say = (line) => process.stderr.write(`${line}\n`)

let running
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    running?.kill(signal)
    process.exit(1)
  })
}

/** Node with these arguments, for so long at most: how it ended, and what it said. */
const run = (args, env, timeoutMs) =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    running = child
    const said = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"]) {
      child[name].setEncoding("utf8").on("data", (text) => {
        said[name] = (said[name] + text).slice(-1_000_000)
      })
    }
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      // Brokers end with whoever started them.
      child.kill("SIGTERM")
      setTimeout(() => child.kill("SIGKILL"), 10_000).unref()
    }, timeoutMs)
    child.on("close", (code) => {
      clearTimeout(timer)
      running = undefined
      resolve({ ...said, isGood: code === 0, isLate })
    })
  })

const require = createRequire(join(root, "package.json"))
const tsx = pathToFileURL(require.resolve("tsx")).href
const program = (file, ...args) => ["--import", tsx, join(root, file), ...args]

/** The first line of what went wrong. */
const reasonOf = ({ isLate, stderr }) => isLate ? "it took too long" : stderr.trim().split("\n")[0] || "it says nothing"

const conformance = async (transport, env) => {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-compat-"))
  const file = join(folder, "result.json")
  const args = ["run", "--maxWorkers=1", `--project=${transport}`, `packages/${transport}/test/Conformance.test.ts`]
  try {
    const result = await run(
      [
        join(root, "node_modules", "vitest", "vitest.mjs"),
        ...args,
        "--reporter=json",
        `--outputFile.json=${file}`
      ],
      env,
      TIMEOUT_MS.conformance
    )
    try {
      const { numFailedTests, numPassedTests, testResults } = JSON.parse(readFileSync(file, "utf8"))
      const failed = testResults.flatMap(({ assertionResults }) => assertionResults).filter(({ status }) =>
        status === "failed"
      )
      for (const { failureMessages, fullName } of failed) say(`! ${fullName}: ${failureMessages[0]?.split("\n")[0]}`)
      // What failed outside of a test is a failure, too.
      const others = result.isGood || numFailedTests > 0 ? 0 : 1
      if (others > 0) say(`! ${reasonOf(result)}`)
      return { passed: numPassedTests, failed: numFailedTests + others }
    } catch {
      say(`! no result: ${reasonOf(result)}`)
      return { passed: 0, failed: 1 }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const chaos = async (transport, { driver, seconds, seed }, env) => {
  const args = [
    "--transport",
    transport,
    ...(driver === undefined ? [] : ["--driver", driver]),
    "--seconds",
    seconds,
    "--seed",
    seed,
    "--kill-every",
    "4s",
    "--relentless",
    "--json"
  ]
  const result = await run(program("tools/chaos/src/main.ts", ...args), env, TIMEOUT_MS.chaos)
  for (const line of result.stderr.split("\n").filter((line) => line.startsWith("! "))) say(line)
  try {
    return { ...JSON.parse(result.stdout), isGood: result.isGood }
  } catch {
    say(`! no result: ${result.isLate ? reasonOf(result) : result.stderr.trim().split("\n").at(-1)}`)
    return undefined
  }
}

const names = { kafka: "Kafka", nats: "nats-server" }

/** A row, and whether all was well. */
const version = async (transport, wanted, asked) => {
  const began = performance.now()
  say(`==> ${names[transport]} ${wanted}`)
  const broker = await run(program("tools/brokers/src/once.ts", transport, wanted), {}, TIMEOUT_MS.broker)
  if (!broker.isGood) {
    const why = reasonOf(broker)
    say(`! ${why}`)
    return { row: [wanted, `not to be had here: ${why.slice(0, 120)}`, "", "", "", "", ""], isGood: false }
  }
  const env = {
    [`TEST_${transport.toUpperCase()}_VERSION`]: wanted,
    ...(asked.driver === undefined ? {} : { TEST_KAFKA_DRIVER: asked.driver })
  }
  const laws = await conformance(transport, env)
  say(`    ${laws.passed} passed, ${laws.failed} failed`)
  const storm = await chaos(transport, asked, env)
  const seconds = Math.round((performance.now() - began) / 1_000)
  const figure = (of) => storm === undefined ? "no result" : String(of(storm))
  const row = [
    broker.stdout.trim(),
    `${laws.passed} / ${laws.failed}`,
    figure(({ handled, kills }) => `${handled.toLocaleString("en")} (${kills})`),
    figure(({ lost }) => lost),
    figure(({ overlaps, violations }) => violations + overlaps),
    figure(({ duplicates, excess }) => excess === 0 ? duplicates : `${duplicates}, ${excess} beyond rule 5`),
    String(seconds)
  ]
  say(`    ${row.slice(2).join(" · ")}`)
  return { row, isGood: laws.failed === 0 && storm?.isGood === true }
}

const table = (transport, rows, { driver = "kafkajs", seconds }) => {
  const date = new Date().toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" })
  const machine = `${cpus().length} cores (${cpus()[0].model.trim()}), ${
    Math.round(totalmem() / 2 ** 30)
  } GiB, Node ${process.versions.node}`
  const head = [
    names[transport],
    "conformance: passed / failed",
    "chaos: handled (kills)",
    "lost",
    "violations",
    "duplicates",
    "seconds"
  ]
  return [
    `${date}; ${machine}${
      transport === "kafka" ? `, driver ${driver}` : ""
    }; chaos of ${seconds} s with four instances:`,
    "",
    ...[head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`),
    ""
  ].join("\n")
}

ensureInstalled()
const asked = options()
for (const transport of asked.transports) {
  const rows = []
  for (const wanted of asked.versions?.split(",") ?? VERSIONS[transport]) {
    const { isGood, row } = await version(transport, wanted.trim(), asked)
    rows.push(row)
    if (!isGood) process.exitCode = 1
  }
  process.stdout.write(`${table(transport, rows, asked)}\n`)
}
