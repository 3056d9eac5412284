import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Client, OnMessage } from "../src/internal/Client.js"
import { Replies } from "../src/internal/Replies.js"
import * as T from "./fixture.js"

describe("Replies", () => {
  it("one error of their subscription ends what waits, and not what comes later", () =>
    T.run(Effect.gen(function*() {
      const callbacks: Array<OnMessage> = []
      const client = {
        isClosed: () => false,
        subscribe: (_: string, callback: OnMessage) => callbacks.push(callback)
      } as unknown as Client
      const replies = new Replies(client, "_INBOX.test")
      const got: Array<string> = []
      const expect = (name: string) =>
        replies.expect({ onReply: (reply) => got.push(`${name} ${reply === undefined ? "nothing" : "a reply"}`) })
      expect("first")
      const denied = { operation: "subscribe", subject: "_INBOX.test.*" } as const
      callbacks[0]!({ message: "denied", denied }, undefined as never)
      assert.deepStrictEqual(got, ["first nothing"])
      assert.strictEqual(replies.denied, denied)
      // Not for each request anew.
      expect("second")
      yield* Effect.sleep(1)
      assert.deepStrictEqual(got, ["first nothing", "second nothing"])
      let token = 0
      yield* T.waitUntil("it is subscribed to again", () => {
        token = expect("third")
        return callbacks.length === 2
      })
      callbacks[1]!(undefined, { subject: replies.subject(token), data: new Uint8Array(0) })
      assert.strictEqual(got.at(-1), "third a reply")
      assert.isUndefined(replies.denied)
    })))
})
