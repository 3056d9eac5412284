import { spawn } from "node:child_process"
import { createRequire } from "node:module"
import { constants } from "node:os"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"
import { ensureInstalled, root } from "./install.mjs"

/** Runs Node with our stdio, hands it our signals, and ends as it ends. */
const node = (args) => {
  const child = spawn(process.execPath, args, { cwd: root, stdio: "inherit" })
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    // On Ctrl-C the terminal has told the child already.
    process.on(signal, () => (signal === "SIGINT" && process.stdin.isTTY) || child.kill(signal))
  }
  child.on("error", (error) => {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  })
  child.on("exit", (code, signal) => {
    process.exitCode = signal === null ? code : 128 + constants.signals[signal]
  })
}

/** Runs a TypeScript program of the workspace with the command line's arguments. */
export const runTypeScript = (file) => {
  ensureInstalled()
  const tsx = pathToFileURL(createRequire(join(root, "package.json")).resolve("tsx")).href
  node(["--import", tsx, join(root, file), ...process.argv.slice(2)])
}

/** Runs a program that one of the root's packages brings. */
export const runBinary = (name, args) => {
  ensureInstalled()
  const manifest = createRequire(join(root, "package.json")).resolve(`${name}/package.json`)
  const { bin } = createRequire(manifest)(manifest)
  node([join(dirname(manifest), typeof bin === "string" ? bin : bin[name]), ...args])
}
