import { assert, describe, it } from "@effect/vitest"
import type { NatsConnection } from "nats"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Client from "../src/internal/Client.js"

const src = fileURLToPath(new URL("../src", import.meta.url))

/** A connection with nothing but what a test needs. */
const connection = (parts: object) => Client.of(parts as unknown as NatsConnection)

/** The events of a client that tells these statuses. */
const eventsOf = async (...statuses: ReadonlyArray<object>) => {
  const events: Array<Client.Event> = []
  const status = async function*() {
    yield* statuses
  }
  connection({ status }).watch((event) => events.push(event))
  await new Promise(setImmediate)
  return events
}

describe("The client", () => {
  it("is touched by one module", () => {
    const touching = readdirSync(src, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .filter((name) => /(from|import|require)\s*\(?\s*["'](nats|@nats-io)(\/|["'])/.test(read(name)))
      .map((name) => name.replaceAll("\\", "/"))
    assert.deepStrictEqual(touching, ["internal/Client.ts"])
  })

  it("shows whether headers can be read", () => {
    const fields = { hdr: 0, subject: new Uint8Array(0) }
    const message = (parts: object) => parts as Client.Message
    assert.isTrue(Client.isReadable(message({ _msg: fields, _rdata: new Uint8Array(0) })))
    for (const other of [{}, { _msg: fields }, { _msg: { subject: "" }, _rdata: new Uint8Array(0) }]) {
      assert.isFalse(Client.isReadable(message(other)))
    }
  })

  it("tells the events of nats and of its successor alike", async () => {
    const denied = { operation: "publish", subject: "orders" } as const
    const expected = [
      { _tag: "Disconnected", server: "a:1" },
      { _tag: "Reconnected", server: "b:2" },
      { _tag: "LameDuck", server: "b:2" },
      { _tag: "Failed", code: "no", denied },
      { _tag: "Failed", code: "no", denied: undefined }
    ]
    assert.deepStrictEqual<unknown>(
      await eventsOf(
        { type: "disconnect", data: "a:1" },
        { type: "reconnecting", data: "b:2" },
        { type: "reconnect", data: "b:2" },
        { type: "ldm", data: "b:2" },
        { type: "error", data: "no", permissionContext: denied },
        { type: "error", data: "no" },
        { type: "pingTimer", data: "1" }
      ),
      expected
    )
    assert.deepStrictEqual<unknown>(
      await eventsOf(
        { type: "disconnect", server: "a:1" },
        { type: "reconnecting" },
        { type: "reconnect", server: "b:2" },
        { type: "ldm", server: "b:2" },
        { type: "error", error: Object.assign(new Error("no"), denied) },
        { type: "error", error: new Error("no") },
        { type: "ping", pendingPings: 1 }
      ),
      expected
    )
  })

  it("is not drained where the connection breaks meanwhile, which is no error", async () => {
    const drained = (drain: () => Promise<void>, isClosed = true) =>
      connection({ drain, isClosed: () => isClosed }).drain()
    assert.isTrue(await drained(() => Promise.resolve()))
    assert.isFalse(await drained(() => Promise.reject(new Error("connection disconnected"))))
    // The client itself says nothing of it.
    assert.isFalse(await drained(() => Promise.resolve(), false))
  })

  it("tells which permission a refused subscription is missing, of both clients", () => {
    const context = { operation: "subscription", subject: "_INBOX.>" }
    for (
      const error of [
        Object.assign(new Error("no"), { permissionContext: context }),
        Object.assign(new Error("no"), context)
      ]
    ) {
      const refused: Array<Client.Refused | undefined> = []
      connection({
        isClosed: () => false,
        isDraining: () => false,
        subscribe: (_: string, { callback }: { readonly callback: (error: Error) => void }) => callback(error)
      }).subscribe("_INBOX.>", (one) => refused.push(one))
      assert.deepStrictEqual(refused, [{ message: "no", denied: { operation: "subscribe", subject: "_INBOX.>" } }])
    }
  })
})

const read = (name: string) => readFileSync(join(src, name), "utf8")
