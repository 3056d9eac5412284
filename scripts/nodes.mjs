import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { homedir, tmpdir } from "node:os"
import { join } from "node:path"
import { ensureInstalled, root } from "./lib/install.mjs"

/**
 * Runs the suites of core and testing and the quickstart on other versions of Node: `node scripts/nodes.mjs 22 24`. npm's packages
 * `node-<platform>-<architecture>` bring them, and they are kept, so that they are fetched once. `--outputFile=F` writes the sums of the tests.
 */
const args = process.argv.slice(2)
const outputFile = args.find((arg) => arg.startsWith("--outputFile="))?.slice("--outputFile=".length)
const asked = args.filter((arg) => /^\d+$/.test(arg))
const versions = asked.length > 0 ? asked : ["22", "24"]

const cache = process.env.EFFECT_EVENTBUS_CACHE ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "effect-eventbus")

/** The path of Node in that version. */
const nodeOf = (version) => {
  const name = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`
  const folder = join(cache, "node", version)
  const binary = join(folder, "node_modules", name, "bin", process.platform === "win32" ? "node.exe" : "node")
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, "package.json"), "{ \"private\": true }\n")
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--no-update-notifier", `${name}@${version}`], {
      cwd: folder,
      stdio: ["ignore", 2, 2],
      shell: process.platform === "win32"
    })
  }
  const said = execFileSync(binary, ["--version"], { encoding: "utf8" }).trim()
  if (!said.startsWith(`v${version}.`)) throw new Error(`${binary} is ${said}, not Node ${version}`)
  return { binary, said }
}

const run = (binary, more, ...command) =>
  spawnSync(binary, command, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...more }).status === 0

ensureInstalled()
const report = mkdtempSync(join(tmpdir(), "eventbus-nodes-"))
const sums = { numPassedTests: 0, numFailedTests: 0, testResults: [] }
const failed = []
for (const version of versions) {
  try {
    const { binary, said } = nodeOf(version)
    process.stdout.write(`\n==> Node ${said}\n`)
    const file = join(report, `${version}.json`)
    const isGood = run(
      binary,
      {},
      join("node_modules", "vitest", "vitest.mjs"),
      ...["run", "--maxWorkers=2", "--minWorkers=1", "--project=core", "--project=testing"],
      ...["--reporter=default", "--reporter=json", `--outputFile.json=${file}`]
    )
    const result = JSON.parse(readFileSync(file, "utf8"))
    if (!isGood && result.numFailedTests === 0) failed.push(`the suites on Node ${version}`)
    sums.numPassedTests += result.numPassedTests
    sums.numFailedTests += result.numFailedTests
    sums.testResults.push(...result.testResults)
    const quickstart = ["--import", "tsx", join("examples", "src", "quickstart.ts")]
    if (run(binary, { env: { ...process.env, EVENTBUS_TRANSPORT: "memory" } }, ...quickstart)) sums.numPassedTests++
    else failed.push(`the quickstart on Node ${version}`)
  } catch (error) {
    failed.push(`Node ${version}: ${error.message}`)
  }
}
rmSync(report, { recursive: true, force: true })
for (const what of failed) {
  sums.numFailedTests++
  sums.testResults.push({ name: "scripts/nodes.mjs", status: "failed", message: what, assertionResults: [] })
  process.stderr.write(`FAILED ${what}\n`)
}
if (outputFile !== undefined) writeFileSync(outputFile, JSON.stringify(sums))
process.exitCode = sums.numFailedTests > 0 ? 1 : 0
