import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Msg, NatsConnection, NatsError } from "nats"
import { isReadable } from "../src/internal/RawMessage.js"
import { Replies } from "../src/internal/Replies.js"
import * as T from "./fixture.js"

describe("Replies", () => {
  it("one error of their subscription ends what waits, and not what comes later", () =>
    T.run(Effect.gen(function*() {
      const callbacks: Array<(error: Error | null, message: Msg) => void> = []
      const client = {
        isClosed: () => false,
        subscribe: (_: string, { callback }: { readonly callback: (typeof callbacks)[0] }) => callbacks.push(callback)
      } as unknown as NatsConnection
      const replies = new Replies(client, "_INBOX.test")
      const got: Array<string> = []
      const expect = (name: string) =>
        replies.expect({ onReply: (reply) => got.push(`${name} ${reply === undefined ? "nothing" : "a reply"}`) })
      expect("first")
      const denied = new Error("denied") as NatsError
      denied.permissionContext = { operation: "subscription", subject: "_INBOX.test.*" }
      callbacks[0]!(denied, undefined as never)
      assert.deepStrictEqual(got, ["first nothing"])
      assert.deepStrictEqual(replies.denied, { operation: "subscribe", subject: "_INBOX.test.*" })
      // Not for each request anew.
      expect("second")
      yield* Effect.sleep(1)
      assert.deepStrictEqual(got, ["first nothing", "second nothing"])
      let token = 0
      yield* T.waitUntil("it is subscribed to again", () => {
        token = expect("third")
        return callbacks.length === 2
      })
      callbacks[1]!(null, { subject: replies.subject(token), data: new Uint8Array(0) } as Msg)
      assert.strictEqual(got.at(-1), "third a reply")
      assert.isUndefined(replies.denied)
    })))

  it("show whether headers can be read", () => {
    const fields = { hdr: 0, subject: new Uint8Array(0) }
    assert.isTrue(isReadable({ _msg: fields, _rdata: new Uint8Array(0) } as unknown as Msg))
    for (const other of [{}, { _msg: fields }, { _msg: { subject: "" }, _rdata: new Uint8Array(0) }]) {
      assert.isFalse(isReadable(other as unknown as Msg))
    }
  })
})
