/**
 * Writes the tables of docs/configuration.md, and the comments of settings in core, from the settings' specs, so that they
 * can't differ from the code: `npm run docs:config`. A test compares them.
 */
import { type ConfigSpec, EventBusConfig, MemoryTransport, Recovery } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export const file = fileURLToPath(new URL("../../docs/configuration.md", import.meta.url))

/** The lists of settings whose options are made of them: an editor shows the comment of a setting where an option is given. */
const lists: { readonly [source: string]: ConfigSpec.Spec } = {
  "EventBusConfig.ts": EventBusConfig.spec,
  "MemoryBroker.ts": MemoryTransport.driver.spec,
  "Recovery.ts": Recovery.spec
}

const specs: { readonly [name: string]: ConfigSpec.Spec } = {
  bus: EventBusConfig.spec,
  memory: MemoryTransport.driver.spec,
  kafka: KafkaTransport.driver.spec,
  nats: NatsTransport.driver.spec
}

const variable = (path: string): string =>
  `EVENTBUS_${path.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/[.-]/g, "_").toUpperCase()}`

const table = (spec: ConfigSpec.Spec): string =>
  [
    "| key below `eventbus` | environment | type | default | meaning |",
    "| --- | --- | --- | --- | --- |",
    ...Object.entries(spec).map(([path, key]) =>
      `| \`${path}\` | \`${variable(path)}\` | ${key.type} | ${
        key.default === undefined ? "" : `\`${key.default}\``
      } | ${key.description.replace(/\|/g, "\\|").replace(/\s+/g, " ")} |`
    )
  ].join("\n")

/** The document with its tables made anew; each of the specs has to have one. */
export const render = (document: string): string =>
  Object.entries(specs).reduce((text, [name, spec]) => {
    const begin = `<!-- settings: ${name} -->\n`
    const from = text.indexOf(begin)
    const to = text.indexOf("<!-- end -->", from)
    if (from === -1 || to === -1) throw new Error(`there is no table for the settings of ${name}`)
    return `${text.slice(0, from)}${begin}${table(spec)}\n${text.slice(to)}`
  }, document)

/** The lists' sources, and each as it is with the comments of its settings made anew. */
export const sources: ReadonlyArray<{ readonly file: string; readonly render: (source: string) => string }> = Object
  .entries(
    lists
  ).map(([name, spec]) => ({
    file: fileURLToPath(new URL(`../../packages/core/src/${name}`, import.meta.url)),
    render: (source) =>
      Object.entries(spec).reduce((text, [path, key]) => {
        const setting = path.slice(path.lastIndexOf(".") + 1)
        const from = new RegExp(`^(?:  /\\*\\* .* \\*/\n)?  ${setting}: ConfigSpec\\.`, "m")
        if (!from.test(text)) throw new Error(`${name} has no setting ${setting}`)
        return text.replace(
          from,
          () => `  /** ${key.description} Default: \`${key.default ?? ""}\`. */\n  ${setting}: ConfigSpec.`
        )
      }, source)
  }))

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const one of [{ file, render }, ...sources]) writeFileSync(one.file, one.render(readFileSync(one.file, "utf8")))
}
