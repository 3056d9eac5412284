/** One file made by esbuild of a program that uses Kafka's second driver, in the ways that the Kafka page names. */
import type { BuildOptions } from "esbuild"
import { build } from "esbuild"
import { rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { join } from "node:path"
import { expect, it } from "vitest"
import * as Consumer from "./Consumer.js"

const kafka = join(Consumer.root, "packages", "kafka")

/** The variant that needs no file; pnpm shows it to nobody but the package that depends on it. */
const alias = {
  "@platformatic/wasm-utils": createRequire(createRequire(join(kafka, "package.json")).resolve("@platformatic/kafka"))
    .resolve("@platformatic/wasm-utils/bundled")
}

/** Nobody answers there; a driver that can't be loaded is another error. */
const contents = `
import { KafkaTransport } from "./src/index.ts"
import { Effect } from "effect"
const made = KafkaTransport.make({ brokers: ["127.0.0.1:1"], driver: "platformatic" })
void Effect.runPromise(Effect.scoped(Effect.flip(made))).then(({ _tag, message }) => console.log("ended", _tag, message))
`

const ended = async (format: "cjs" | "esm", more: BuildOptions) => {
  // What is left out is found from here.
  const outfile = join(kafka, `bundled-${process.pid}.${format === "esm" ? "mjs" : "cjs"}`)
  try {
    await build({
      stdin: { contents, resolveDir: kafka, loader: "ts" },
      outfile,
      bundle: true,
      platform: "node",
      target: "node20",
      format,
      logLevel: "silent",
      ...more
    })
    return await Consumer.run(kafka, process.execPath, outfile)
  } finally {
    await rm(outfile, { force: true })
  }
}

it("is left out of it, and found beside", async () => {
  for (const format of ["esm", "cjs"] as const) {
    expect(await ended(format, { external: ["@platformatic/kafka"] })).toContain("ended BrokerUnreachable")
  }
}, 60_000)

it("is in an ES module, with its variant that needs no file", async () => {
  expect(await ended("esm", { alias })).toContain("ended BrokerUnreachable")
}, 60_000)

it("says where it can't be loaded that it is to be left out", async () => {
  expect(await ended("cjs", {})).toMatch(/ended InvalidConfiguration[^]*leave that package out of it/)
}, 60_000)
