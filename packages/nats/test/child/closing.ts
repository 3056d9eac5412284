/** Publishes, consumes and closes in the middle of it; the process has to end by itself. */
import { Duration, Effect } from "effect"
import { NatsTransport } from "../../src/index.js"
import { request, TestConsumer } from "../consumer.js"

const [, , server, topic] = process.argv

const program = Effect.gen(function*() {
  const service = yield* NatsTransport.make({ servers: [server!] })
  const spec = { name: topic!, kind: "envelope" as const }
  const messages = Array.from({ length: 500 }, (_, n) => ({
    id: `event-${n}`,
    aggregateId: `a-${n % 10}`,
    key: null,
    value: new TextEncoder().encode(String(n)),
    headers: {},
    timestamp: undefined
  }))
  yield* service.publish(spec, messages, { timeout: Duration.seconds(10) })
  const consumer = new TestConsumer({ capacity: 100, onMessage: () => {} })
  yield* service.subscribe(request(spec), consumer)
  while (consumer.unfinished.size < 100) yield* Effect.sleep(10)
  for (const message of [...consumer.unfinished.values()].slice(0, 50)) consumer.finish(message)
})

await Effect.runPromise(Effect.scoped(program))
console.log("closed")
