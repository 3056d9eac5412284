/** What the tests of this folder share: commands outside of the workspace, and what the documents say. */
import { execFile } from "node:child_process"
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

/** What `setup.ts` makes once. */
export interface Given {
  /** A project into which everything was installed by the lines of README and the guides. */
  readonly project: string
  /** The packed package of each name. */
  readonly tarballs: Readonly<Record<string, string>>
}

export const root = fileURLToPath(new URL("../../../", import.meta.url))
export const tsc = join(root, "node_modules", "typescript", "bin", "tsc")
export const packages = ["core", "kafka", "nats", "observability", "testing"] as const

/** What `npm test` and vitest put into the environment would tell npm and pnpm that they are in our workspace. */
const isOfWorkspace =
  /^(npm_package_|npm_lifecycle_|npm_config_local_prefix$|npm_config_node_gyp$|INIT_CWD$|NODE_OPTIONS$|TEST_LONG$|VITEST)/
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !isOfWorkspace.test(name))),
  EVENTBUS_TRANSPORT: "memory"
}

export const run = async (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const running = promisify(execFile)(command, args, {
    cwd,
    env,
    timeout: 240_000,
    shell: process.platform === "win32",
    maxBuffer: 64 * 1024 * 1024
  })
  running.child.stdin?.end()
  return running.then(({ stdout }) => stdout, (error: { readonly stdout: string; readonly stderr: string }) => {
    throw new Error(`${command} ${args.join(" ")} failed:\n${error.stdout}${error.stderr}`, { cause: error })
  })
}

interface Manifest {
  readonly packageManager: string
  readonly dependencies?: Record<string, string>
  readonly devDependencies: Record<string, string>
  readonly peerDependencies?: Record<string, string>
}

export const manifestOf = async (file: string): Promise<Manifest> => JSON.parse(await readFile(file, "utf8"))

/** README and the guides. */
export const guides = async (): Promise<ReadonlyArray<string>> => [
  "README.md",
  ...(await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md")).sort().map((name) => `docs/${name}`)
]

export const readmeOf = (name: string): string => `packages/${name}/README.md`

export const documentOf = (name: string): Promise<string> => readFile(join(root, name), "utf8")

/** The code blocks of a document in that language. */
export const codeOf = (document: string, language: "ts" | "sh" = "ts"): ReadonlyArray<string> =>
  Array.from(document.matchAll(/^ *```(\w+)\n(.*?)^ *```/gms)).flatMap(([, found, code]) =>
    found === language ? [code!] : []
  )

/** The lines of a document that install something, as a reader copies them, without what is said behind `#`. */
export const installLines = (document: string): ReadonlyArray<string> =>
  codeOf(document, "sh").flatMap((code) => code.split("\n")).map((line) => line.replace(/\s#.*/, "").trim()).filter(
    (line) => /^(npm (install|i|add)|pnpm (install|i|add)|yarn add|bun add)\s/.test(line)
  )

/** Does what such a line says; our own packages are those that were packed, because no registry has them yet. */
export const install = (
  project: string,
  tarballs: Readonly<Record<string, string>>,
  line: string
): Promise<string> => {
  const [command, ...args] = line.split(/\s+/).map((word) => tarballs[word] ?? word)
  const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
  return run(project, command!, ...args, ...quiet)
}

export const emptyProject = async (folder: string): Promise<void> => {
  await mkdir(folder)
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }))
}

/** Type-checks all programs of a project strictly, our types included, and compiles them into `out`. */
export const compile = async (project: string): Promise<void> => {
  await writeFile(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "ES2022",
        module: "NodeNext",
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        types: ["node"],
        outDir: "out"
      },
      include: ["*.ts"]
    })
  )
  await run(project, process.execPath, tsc, "-p", ".")
}
