import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** The workspace's folder. */
export const root = fileURLToPath(new URL("../../", import.meta.url))

const pnpm = "pnpm@10.34.9"
const stampFile = join(root, "node_modules", ".eventbus-lockfile-sha256")
const fail = (message) => {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

/**
 * Installs the workspace when it isn't, or when the lockfile changed since. Everything goes to stderr: stdout is the
 * program's own.
 */
export const ensureInstalled = () => {
  if (Number(process.versions.node.split(".")[0]) < 20) fail(`Node 20 or newer is needed; this is ${process.version}.`)
  const hash = createHash("sha256").update(readFileSync(join(root, "pnpm-lock.yaml"))).digest("hex")
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === hash) return
  process.stderr.write("Installing the workspace's packages ...\n")
  const { error, status } = spawnSync("npx", ["-y", pnpm, "install", "--frozen-lockfile"], {
    cwd: root,
    // CI=true: pnpm may replace a stale node_modules without asking.
    env: { ...process.env, CI: "true" },
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32"
  })
  if (error !== undefined) fail(`npx can't be started (${error.message}); it comes with Node.`)
  if (status !== 0) {
    fail(
      `Installing failed: see above. If the lockfile is out of date, run: npx -y ${pnpm} install`
    )
  }
  writeFileSync(stampFile, hash)
}
