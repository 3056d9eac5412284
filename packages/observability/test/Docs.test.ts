import { expect, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import * as Instruments from "../src/internal/Instruments.js"
import { remedies } from "../src/internal/Remedies.js"

const page = readFileSync(new URL("../../../docs/observability.md", import.meta.url), "utf8")

/** The rows of the page's tables whose first cell is code, with type and labels. */
const rows = new Map(
  page.split("\n").flatMap((line) => {
    const first = /^\| `([^`]+)` \| (counter|gauge|histogram) \|/.exec(line)
    const cells = line.split("|").map((cell) => cell.trim())
    return first === null ? [] : [[first[1]!, { type: first[2]!, labels: cells[4]! }] as const]
  })
)

it("the page for operators has each metric with its type and labels, and no other", () => {
  const all = [...Object.values(Instruments.own), ...Object.values(Instruments.conventions)]
  expect(Array.from(rows.keys()).sort()).toEqual(all.map(({ name }) => name).sort())
  for (const { labels, name, type } of all) {
    const row = rows.get(name)!
    expect([name, row.type]).toEqual([name, type])
    expect([name, row.labels]).toEqual([name, labels.map((label) => `\`${label}\``).join(", ")])
  }
})

it("the page names the version of the conventions", () => {
  expect(page.split(`**${Instruments.conventionsVersion}**`)).toHaveLength(3)
})

it("the page has each reason of health with its level", () => {
  const levels = new Map(
    page.split("\n").flatMap((line) => {
      const row = /^\| `([A-Z][A-Za-z]+)` \| (warning|critical)/.exec(line)
      return row === null ? [] : [[row[1]!, row[2]!] as const]
    })
  )
  const expected = Object.entries(remedies).map(([reason, { level }]) => [
    reason,
    reason === "ProbeMissed" ? "warning" : level
  ])
  expect(Array.from(levels).sort()).toEqual(expected.sort())
})
