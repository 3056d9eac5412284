/** Settles what it gets before it notes that in a file, as if it handled it then, and waits to be killed. */
import { Effect } from "effect"
import { openSync, writeSync } from "node:fs"
import { NatsTransport } from "../../src/index.js"
import { request, TestConsumer } from "../consumer.js"

const [, , server, topic, partitions, file] = process.argv
const notes = openSync(file!, "a")

Effect.runFork(Effect.scoped(Effect.gen(function*() {
  const service = yield* NatsTransport.make({ servers: [server!], leaseDuration: "2 seconds", plainStorage: "file" })
  const consumer = new TestConsumer({ onMessage: () => {} })
  const spec = { name: topic!, kind: "plain" as const, partitions: partitions === "0" ? undefined : Number(partitions) }
  yield* service.subscribe(request(spec, { semantics: "at-most-once" }), consumer)
  while (true) {
    for (const assignment of consumer.assignments) {
      const own = [...consumer.unfinished.values()].filter(({ partition }) => partition === assignment.partition)
      const next = own.slice(0, 100)
      if (next.length === 0) continue
      yield* assignment.settle(next)
      for (const { offset } of next) {
        writeSync(notes, `${offset}\n`)
        consumer.unfinished.delete(offset)
      }
    }
    yield* Effect.sleep(2)
  }
})))
