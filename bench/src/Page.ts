/** Writes a run's figures into `docs/performance.md`, and its chart beside it. */
import { readFileSync, writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { fileURLToPath } from "node:url"
import * as Report from "./Report.js"

const docs = new URL("../../docs/", import.meta.url)
const begin = "<!-- figures: made by npm run bench -- --docs -->"
const end = "<!-- figures end -->"

const versionOf = (name: string): string =>
  JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), "utf8")).version

const machine = (command: string, processors: string): string =>
  `Measured on ${new Date().toISOString().slice(0, 10)} with \`${command}\` on ${cpus().length} × ${
    cpus()[0]?.model.trim() ?? "unknown"
  } (${Math.round(totalmem() / 2 ** 30)} GiB), Node ${process.version}, effect ${versionOf("effect")}, kafkajs ${
    versionOf("kafkajs")
  }, nats ${versionOf("nats")}, fastq ${versionOf("fastq")}, p-queue ${
    versionOf("p-queue")
  }; brokers on the same machine${processors === "" ? "" : `; over the whole run ${processors} of their time`}.`

/** `processors` says what else was known about the machine. */
export const write = (rows: ReadonlyArray<Report.Row>, command: string, processors: string): void => {
  const page = fileURLToPath(new URL("performance.md", docs))
  const text = readFileSync(page, "utf8")
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  if (from === -1 || to < from) throw new Error(`${page} has no place for the figures: ${begin} … ${end}`)
  const figures = `${begin}\n${machine(command, processors)}\n\n![Rates beside the raw clients](performance.svg)\n\n${
    Report.markdown(rows)
  }\n`
  writeFileSync(page, text.slice(0, from) + figures + text.slice(to))
  writeFileSync(fileURLToPath(new URL("performance.svg", docs)), chart(rows))
}

const width = 760
const left = 330
const bar = 15
const colorOf = (system: string): string => system.startsWith("ours") ? "#2f6f9f" : "#b5b5b5"

/** A bar for each row that has a rate, as long as its share of the workload's fastest. */
export const chart = (rows: ReadonlyArray<Report.Row>): string => {
  const shown = rows.filter((row) => !row.isPaced && row.kibEach === 0 && row.sockets === 0 && row.systems > 1)
  const parts: Array<string> = []
  let y = 10
  let workload = ""
  for (const row of shown) {
    if (row.workload !== workload) {
      workload = row.workload
      y += 22
      parts.push(`<text x="10" y="${y - 4}" font-weight="bold">${workload}: ${escape(row.title)}</text>`)
    }
    const fastest = Math.max(...shown.filter((one) => one.workload === workload).map(({ rate }) => rate))
    const length = Math.max(1, Math.round((width - left - 110) * row.rate / fastest))
    parts.push(
      `<text x="${left - 8}" y="${y + bar - 4}" text-anchor="end">${escape(row.system)}</text>` +
        `<rect x="${left}" y="${y}" width="${length}" height="${bar - 3}" fill="${colorOf(row.system)}"/>` +
        `<text x="${left + length + 6}" y="${y + bar - 4}">${Math.round(row.rate).toLocaleString("en")}/s</text>`
    )
    y += bar
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${
    y + 10
  }" font-family="sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="white"/>\n${parts.join("\n")}\n</svg>\n`
}

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
