/** The border of the drivers: no client's name is above it. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"

const src = join(import.meta.dirname, "../src")
const clients = ["kafkajs", "@platformatic/kafka"]

/** By client the folder that may know it. */
const folderOf: Readonly<Record<string, string>> = {
  kafkajs: "internal/kafkajs/",
  "@platformatic/kafka": "internal/platformatic/"
}

const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".ts"))

/** Imports, re-exports, and those of a type or on demand. */
const importsOf = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/(?:\bfrom|\bimport|\brequire)\s*\(?\s*"([^"]+)"/g), ([, name]) => name!)

const isOf = (client: string, name: string): boolean => name === client || name.startsWith(`${client}/`)

it("a client is imported in its driver's folder only", () => {
  for (const file of files) {
    const imports = importsOf(readFileSync(join(src, file), "utf8"))
    for (const client of clients) {
      if (file.startsWith(folderOf[client]!)) continue
      expect(imports.filter((name) => isOf(client, name)), file).toEqual([])
    }
  }
})

it("a driver's folder is imported by the list of drivers only", () => {
  for (const file of files) {
    if (file === "internal/drivers.ts") continue
    const ofDrivers = importsOf(readFileSync(join(src, file), "utf8"))
      .filter((name) => /\/(kafkajs|platformatic)\//.test(name) && !name.startsWith("kafkajs/"))
    expect(ofDrivers, file).toEqual([])
  }
})

it("the names of a client's errors are known in its driver's folder only", () => {
  const folders = Object.values(folderOf)
  for (const file of files.filter((file) => !folders.some((folder) => file.startsWith(folder)))) {
    expect(readFileSync(join(src, file), "utf8"), file).not.toMatch(/KafkaJS|PLT_KFK/)
  }
})

it("each kind of import is found", () => {
  const text = `
    import "kafkajs/a.js"
    import type { B } from "kafkajs"
    export * from "./c.js"
    const d = import("@platformatic/kafka")
  `
  expect(importsOf(text)).toEqual(["kafkajs/a.js", "kafkajs", "./c.js", "@platformatic/kafka"])
})
