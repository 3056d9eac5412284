import type {} from "@effect-eventbus/brokers/vitestSetup"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { NatsConnection } from "nats"
import { inject } from "vitest"
import { sequenceOf } from "../src/internal/Api.js"
import * as Client from "../src/internal/Client.js"
import { Frame } from "../src/internal/Frame.js"
import { parsePosition } from "../src/internal/RawMessage.js"
import { Wire } from "../src/internal/Wire.js"
import * as T from "./fixture.js"

const text = (value: string) => new TextEncoder().encode(value)

/** What reaches the client's buffer while something is written. */
const written = (client: NatsConnection, write: (client: NatsConnection) => void): string => {
  const { protocol } = client as unknown as {
    readonly protocol: { sendCommand: (command: string | Uint8Array, ...rest: ReadonlyArray<Uint8Array>) => void }
  }
  let all = ""
  protocol.sendCommand = (...parts) => parts.forEach((part) => all += Buffer.from(part as Uint8Array).toString())
  try {
    write(client)
  } finally {
    delete (protocol as { sendCommand?: unknown }).sendCommand
  }
  return all
}

/** A client that hides what it does not export. */
const closedIn = (client: NatsConnection): NatsConnection => ({
  isClosed: () => client.isClosed(),
  info: client.info,
  publish: client.publish.bind(client)
} as unknown as NatsConnection)

describe("Wire", () => {
  it("writes what the client's own publish writes", () =>
    T.run(Effect.gen(function*() {
      const client = yield* T.client(inject("natsServers"))
      const ways = [
        (client: NatsConnection) => new Wire(Client.of(client)),
        (client: NatsConnection) => new Wire(Client.of(closedIn(client)))
      ]
      const headers = "NATS/1.0\r\nNats-Msg-Id: ä/1\r\n\r\n"
      const frame = (subject: string, value: Uint8Array) =>
        Frame.make(subject, "_INBOX.r.1", headers, text(headers).length, value)
      const writes: ReadonlyArray<(wire: Wire) => void> = [
        (wire) => wire.publish(frame("orders.ü", text("body"))),
        (wire) => wire.publish(frame("orders", new Uint8Array(0))),
        (wire) => wire.publish(frame("orders.ü", text("body")).to("_INBOX.r.23")),
        (wire) => wire.tell("+ACK", ["$JS.ACK.a", "$JS.ACK.ü", "$JS.ACK.c"]),
        (wire) => wire.tell("+ACK", ["$JS.ACK.a", "$JS.ACK.b"], "_INBOX.r.2"),
        (wire) => wire.tell("+ACK", [])
      ]
      for (const write of writes) {
        const [fast, plain] = ways.map((way) => written(client, (client) => write(way(client))))
        assert.strictEqual(fast, plain)
      }
      assert.match(
        written(client, (client) => writes[0]!(new Wire(Client.of(client)))),
        /^HPUB orders\.ü _INBOX\.r\.1 /
      )
    })))

  it("refuses what the client refuses", () =>
    T.run(Effect.gen(function*() {
      const client = yield* T.client(inject("natsServers"))
      const wire = new Wire(Client.of(client))
      const tooLarge = new Uint8Array(client.info!.max_payload)
      assert.throws(() => wire.publish(Frame.make("a", "b", "NATS/1.0\r\n\r\n", 12, tooLarge)), /max_payload/i)
      yield* Effect.promise(() => client.close())
      assert.throws(() => wire.tell("+ACK", ["a"]), /connection.closed|closed.connection/i)
    })))
})

describe("Answers", () => {
  it("the sequence is read from acknowledgements of the ordinary form only", () => {
    const of = (answer: string) => sequenceOf(text(answer))
    assert.strictEqual(of(`{"stream":"orders","seq":1}`), 1)
    assert.strictEqual(of(`{"stream":"orders", "seq": 9007199254740991}`), Number.MAX_SAFE_INTEGER)
    assert.strictEqual(of(`{"stream":"orders","domain":"hub","seq":20}`), 20)
    for (
      const other of [
        `{"stream":"orders","seq":1,"duplicate":true}`,
        `{"error":{"code":503,"description":"x"},"stream":"orders","seq":1}`,
        `{"stream":"orders","seq":9007199254740993}`,
        `{"stream":"orders","seq":}`,
        `{"stream":"orders","xeq":1}`,
        `{"seq":1}`,
        `{"stream":"a"`,
        "}",
        ""
      ]
    ) assert.isUndefined(of(other), other)
  })

  it("a position is read from reply subjects of either form", () => {
    const position = { count: 2, sequence: 30, delivery: 41, timestamp: 1_763_742_000_123, pending: 7 }
    const tokens = "2.30.41.1763742000123456789.7"
    assert.deepStrictEqual(parsePosition(`$JS.ACK.orders.group.${tokens}`), position)
    assert.deepStrictEqual(parsePosition(`$JS.ACK.hub.account.orders.group.${tokens}`), position)
    assert.isUndefined(parsePosition(`$JS.ACK.hub.orders.group.${tokens}`))
    assert.deepStrictEqual(parsePosition(`$JS.ACK.hub.account.orders.group.${tokens}.token`), position)
    assert.deepStrictEqual(parsePosition(`$JS.ACK.hub.account.orders.group.${tokens}.token.more`), position)
    assert.isUndefined(parsePosition(`$JS.ACK.orders.group.2.x.41.1763742000123456789.7`))
    assert.isUndefined(parsePosition(`_INBOX.a.orders.group.${tokens}`))
  })
})
