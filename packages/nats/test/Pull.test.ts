import { assert, describe, it } from "@effect/vitest"
import { Pull } from "../src/internal/Pull.js"
import { fakeConnection } from "./fakeConnection.js"

/** What becomes of a request that the server says this of. */
const saidOf = (code: number, description: string): string => {
  const scene = fakeConnection()
  const came: Array<string> = []
  const pull = new Pull(scene.connection, "next", 0, 1_000, {
    onMessage: () => {},
    onEnd: () => came.push("ended"),
    onBroken: (broken) => came.push(broken.reason)
  })
  pull.request({ batch: 10, maxBytes: 1_000 })
  scene.status(scene.published.at(-1)!.reply!, code, description)
  return came.join()
}

describe("A pull request", () => {
  it.each([
    [404, "No Messages", "ended"],
    [408, "Request Timeout", "ended"],
    [409, "Batch Completed", "ended"],
    [409, "Message Size Exceeds MaxBytes", "ended"],
    [409, "Consumer Deleted", "ConsumerDeleted"],
    [409, "Leadership Change", "LeaderChanged"],
    [409, "Server Shutdown", "LeaderChanged"],
    [409, "Consumer is push based", "Refused"],
    [409, "Exceeded MaxRequestBatch of 100", "Refused"],
    [409, "Exceeded MaxWaiting", "Refused"],
    [400, "Bad Request", "Refused"],
    [503, "", "ConsumerDeleted"],
    // Nobody knows what servers will say; the next request would be answered so at once, without end.
    [409, "Something new", "Refused"],
    [423, "Nats-Wrong-Pin-Id", "Refused"],
    [429, "Too Many Requests", "Refused"],
    [500, "Internal Error", "Refused"]
  ])("%i %s: %s", (code, description, expected) => {
    assert.strictEqual(saidOf(code, description), expected)
  })
})
