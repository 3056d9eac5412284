/** Modules that import each other in a circle. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import * as Cycles from "../src/Cycles.js"
import { root } from "./Consumer.js"

/**
 * The circles that are there for now, by folder. This list only gets shorter: another circle, or another module in one of these, is an
 * error, and so is one that is listed and gone.
 */
const known: Readonly<Record<string, ReadonlyArray<ReadonlyArray<string>>>> = {
  "packages/kafka": [["KafkaConfig.ts", "KafkaConfigSpec.ts"]],
  "packages/nats": [["NatsConfig.ts", "NatsConfigSpec.ts"]],
  "packages/testing": [
    ["Faults.ts", "internal/faultLane.ts"],
    ["Oracles.ts", "internal/finding.ts", "internal/orderOf.ts"]
  ]
}

const folders = [
  ...["core", "kafka", "nats", "observability", "testing"].map((name) => `packages/${name}`),
  ...["brokers", "chaos", "packages"].map((name) => `tools/${name}`)
]

describe.each(folders)("the modules of %s", (folder) => {
  it("don't import each other in a circle", () => {
    const graph = Cycles.graphOf(join(root, folder, "src"))
    expect(graph.size).toBeGreaterThan(0)
    const found = Cycles.circles(graph)
    const allowed = known[folder] ?? []
    const isWithin = (circle: ReadonlyArray<string>) => (one: ReadonlyArray<string>) =>
      circle.every((name) => one.includes(name))
    const added = found.filter((circle) => !allowed.some(isWithin(circle)))
    expect(added.map((circle) => Cycles.explain(graph, circle)).join("\n\n"), "a circle of imports").toBe("")
    const gone = allowed.filter((one) => !found.some((circle) => isWithin(circle)(one)))
    expect(gone, "is no circle any more: take it from the list").toEqual([])
  })
})

describe("a circle is found", () => {
  it("over type-only imports, re-exports, types by import() and folders, and whoever only leads to it is not in it", () => {
    const folder = mkdtempSync(join(tmpdir(), "cycles-"))
    mkdirSync(join(folder, "internal"))
    const files = {
      "A.ts": "import type { B } from \"./internal/b.js\"\nimport * as Effect from \"effect/Effect\"",
      "internal/b.ts": "export * from \"../C.js\"",
      "C.ts": "export type X = import(\"./A.js\").A",
      "D.ts": "import { A } from \"./A.js\"\nimport { E } from \"./E.js\"",
      "E.ts": "// import { D } from \"./D.js\"",
      "F.ts": "import * as F from \"./F.js\""
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), `${text}\n`)
    const graph = Cycles.graphOf(folder)
    rmSync(folder, { recursive: true })
    expect(Cycles.circles(graph)).toEqual([["A.ts", "C.ts", "internal/b.ts"], ["F.ts"]])
    expect(Cycles.explain(graph, ["A.ts", "C.ts", "internal/b.ts"])).toBe(
      "A.ts imports internal/b.ts\nC.ts imports A.ts\ninternal/b.ts imports C.ts"
    )
  })
})
