/** Which modules of a folder import each other in a circle, types included: none of them can be read, or moved, without the others. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import ts from "typescript"

/** The modules that each module imports. */
export type Graph = ReadonlyMap<string, ReadonlyArray<string>>

/** The imports between the modules of a folder, type-only ones and re-exports included; modules are named by their path in it. */
export const graphOf = (folder: string): Graph => {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /(?<!\.d)\.ts$/.test(name))
  const nameOf = (path: string) => relative(folder, path).replaceAll("\\", "/")
  return new Map(files.map((file) => {
    const path = join(folder, file)
    const imported = ts.preProcessFile(readFileSync(path, "utf8"), true, true).importedFiles
    return [
      nameOf(path),
      imported.flatMap(({ fileName }) =>
        fileName.startsWith(".") ? [nameOf(resolve(dirname(path), fileName.replace(/\.js$/, ".ts")))] : []
      )
    ]
  }))
}

/** The largest groups of modules that reach each other (Tarjan's strongly connected components), sorted. */
export const circles = (graph: Graph): ReadonlyArray<ReadonlyArray<string>> => {
  const indices = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: Array<string> = []
  const found: Array<ReadonlyArray<string>> = []
  const visit = (name: string): void => {
    const index = indices.size
    indices.set(name, index)
    low.set(name, index)
    stack.push(name)
    for (const next of graph.get(name) ?? []) {
      if (!graph.has(next)) continue
      if (!indices.has(next)) visit(next)
      if (stack.includes(next)) low.set(name, Math.min(low.get(name)!, low.get(next)!))
    }
    if (low.get(name) !== index) return
    const members = stack.splice(stack.indexOf(name)).sort()
    if (members.length > 1 || graph.get(name)!.includes(name)) found.push(members)
  }
  for (const name of graph.keys()) if (!indices.has(name)) visit(name)
  return found.sort((a, b) => a[0]!.localeCompare(b[0]!))
}

/** The imports within a circle, one a line. */
export const explain = (graph: Graph, circle: ReadonlyArray<string>): string =>
  circle.map((name) => `${name} imports ${graph.get(name)!.filter((next) => circle.includes(next)).join(", ")}`).join(
    "\n"
  )
