import * as Debian from "@effect-eventbus/brokers/Debian"
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { beforeAll, describe, expect } from "vitest"
import { eventually, finishing, message, published, request, shared, spec, transport } from "./Harness.js"

/** A client that is not ours: it is installed where it is missing, like the brokers. */
beforeAll(
  () =>
    spawnSync("kcat", ["-V"]).status === 0
      ? undefined
      : Effect.runPromise(Debian.install("kcat", ["kcat"], "Install kcat: on Debian, apt-get install kcat.")),
  120_000
)

const kcat = (args: ReadonlyArray<string>, input?: Buffer): Buffer => {
  const { status, stderr, stdout } = spawnSync("kcat", ["-b", shared()[0]!, ...args], { input, timeout: 15_000 })
  if (status !== 0) throw new Error(stderr.toString())
  return stdout
}

/** As the Go event bus writes it. */
const go = `${readFileSync(new URL("golden/envelope.json", import.meta.url), "utf8")}\n`

describe("kcat", () => {
  it.scopedLive("reads byte for byte what we wrote: keys, values and headers", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
      yield* published(service, topic, [
        message("order-1", bytes, {
          headers: { "x-a": "b", "X-Aggregate-ID": "order-1" },
          timestamp: 1_700_000_000_123
        }),
        message("ü/2", go),
        message("k3", null)
      ])
      const read = (offset: number, format: string) =>
        kcat(["-C", "-q", "-t", topic.name, "-p", "0", "-o", String(offset), "-c", "1", "-e", "-f", format])
      expect(read(0, "%s").equals(bytes)).toBe(true)
      expect(read(0, "%k %h %T").toString()).toBe("order-1 x-a=b,X-Aggregate-ID=order-1 1700000000123")
      expect(read(1, "%k|%s").toString()).toBe(`ü/2|${go}`)
      expect(read(2, "%S").toString()).toBe("-1")
    }), 30_000)

  it.scopedLive(
    "an envelope that it wrote, in the Go bus's bytes, is read, and kept byte for byte",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        yield* published(service, topic, [message("a", "first")])
        const bytes = Buffer.from(go.trim())
        kcat(["-P", "-t", topic.name, "-K", "\t", "-H", "trace=1", "-X", "acks=all"], Buffer.from(`order-1\t${go}`))
        const { all, consumer } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("it arrives", () => all().length === 2)
        const one = all()[1]!
        expect(Buffer.from(one.value!).equals(bytes)).toBe(true)
        expect(Buffer.from(one.key!).toString()).toBe("order-1")
      }),
    30_000
  )
})
