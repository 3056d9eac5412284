/** A process of its own for the tests of closing and of being killed. */
import type { Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { Duration, Effect } from "effect"
import { driverName } from "./driver.js"

const { BROKERS, MODE, TOPIC } = process.env
const topic: Transport.TopicSpec = { name: TOPIC!, kind: "envelope" }

const program = Effect.gen(function*() {
  const service = yield* KafkaTransport.make({
    brokers: BROKERS!.split(","),
    driver: driverName,
    // A process that begins on a busy machine can be late by three seconds, and must not be lost then.
    sessionTimeout: Duration.seconds(4)
  })
  let handled = 0
  let last: { readonly assignment: Transport.Assignment } | undefined
  yield* service.subscribe({
    topic,
    group: "tests",
    semantics: "at-least-once",
    startFrom: "earliest",
    maxAboveWatermark: 10_000,
    maxUnfinished: 1_000,
    drainDeadline: Duration.millis(300)
  }, {
    assigned: (assignment) => {
      last = { assignment }
      return {
        offer: (messages) => {
          for (const message of messages) {
            if (MODE === "close" || message.offset % 3 === 1) assignment.finish(message)
          }
          handled += messages.length
          return messages.length
        },
        close: () => Effect.succeed({ unfinished: 0, lost: 0 })
      }
    }
  })
  while (handled < 100) yield* Effect.sleep("5 millis")
  console.log(`handled ${handled}`)
  if (MODE === "close") {
    yield* service.publish(topic, [{
      id: undefined,
      aggregateId: "a",
      key: null,
      value: null,
      headers: {},
      timestamp: undefined
    }], { timeout: Duration.seconds(5) })
    return
  }
  yield* last!.assignment.settle([])
  console.log("committed")
  yield* Effect.never
})

void Effect.runPromise(Effect.scoped(program)).then(() => {
  console.log("closed")
  console.log(`timers ${process.getActiveResourcesInfo().filter((name) => name === "Timeout").length}`)
})
