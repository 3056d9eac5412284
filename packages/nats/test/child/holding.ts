/** Reads a topic, finishes some of what it gets, notes that and when in a file, and waits to be killed. */
import { Effect } from "effect"
import { openSync, writeSync } from "node:fs"
import { NatsTransport } from "../../src/index.js"
import { request, TestConsumer } from "../consumer.js"

const [, , server, topic, capacity, file] = process.argv
// A pipe can be full; what a file was given survives the process.
const notes = openSync(file!, "a")

Effect.runFork(Effect.scoped(Effect.gen(function*() {
  const service = yield* NatsTransport.make({ servers: [server!], leaseDuration: "2 seconds" })
  const consumer = new TestConsumer({
    capacity: Number(capacity),
    onMessage: (message, consumer) => {
      // Some stay unfinished, so that the outstanding ones have gaps.
      if (message.offset % 5 === 0) return
      setTimeout(() => {
        writeSync(notes, `${message.offset} ${performance.now()}\n`)
        consumer.finish(message)
      }, Math.random() * 20)
    }
  })
  yield* service.subscribe(request({ name: topic!, kind: "envelope" }), consumer)
  return yield* Effect.never
})))
