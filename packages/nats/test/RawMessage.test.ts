import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Acks } from "../src/internal/Acks.js"
import type { Message } from "../src/internal/Client.js"
import { encode } from "../src/internal/HeaderCodec.js"
import { Intake } from "../src/internal/Intake.js"
import { toIncoming } from "../src/internal/RawMessage.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

const subject = "orders.p.0.a-1"
const position = { sequence: 7, delivery: 3, count: 1, timestamp: 1_763_742_000_123, pending: 0 }
const source = { topic: "orders", partition: 0 }

/** A message as the client has it: parts of what the socket brought. */
const received = (value: Uint8Array) => {
  const encoded = encode("id", {
    ...T.message(7, undefined),
    key: Buffer.from("a key of more than sixty-four bytes, which have memory outside of the heap"),
    headers: { text: "t".repeat(100), bytes: Uint8Array.of(255, 254) }
  })
  if (typeof encoded === "string") throw new Error(encoded)
  const socket = new Uint8Array(262_144)
  const at = 100_000
  socket.set(Buffer.from(encoded.block), at)
  socket.set(value, at + encoded.size)
  const _rdata = socket.subarray(at, at + encoded.size + value.length)
  const message = {
    subject,
    data: _rdata.subarray(encoded.size),
    _msg: { hdr: encoded.size, subject: Buffer.from(subject) },
    _rdata
  } as unknown as Message
  return { message, socket }
}

const partsOf = ({ headers, key, value }: IncomingMessage): ReadonlyArray<Uint8Array> => [
  value!,
  key!,
  ...Object.values(headers).filter((header) => header instanceof Uint8Array)
]

describe("A message that was read", () => {
  it("holds nothing of the socket's buffer: small parts are in Node's pool, and large ones have what they need", () => {
    for (const size of [1, 100, Buffer.poolSize, 100_000]) {
      const value = Buffer.alloc(size, "v")
      const { message, socket } = received(value)
      const incoming = toIncoming(message, position, source, false)
      socket.fill(0)
      const parts = partsOf(incoming)
      assert.lengthOf(parts, 3)
      for (const part of parts) assert.isAtMost(part.buffer.byteLength, Math.max(Buffer.poolSize, part.length))
      assert.isTrue(value.equals(incoming.value!))
      assert.deepStrictEqual(incoming.headers["bytes"], Uint8Array.of(255, 254))
      assert.match(Buffer.from(incoming.key!).toString(), /^a key of more/)
    }
  })

  it("is held so by the intake, too, until the lane takes it", () =>
    T.run(Effect.gen(function*() {
      const { connection } = fakeConnection()
      const taken: Array<IncomingMessage> = []
      const intake = new Intake(connection, new Acks(connection, 2_000), source, () => true, () => {})
      intake.lane = {
        offer: (messages) => taken.push(...messages),
        close: () => Effect.succeed({ unfinished: 0, lost: 0 })
      }
      const { message } = received(Buffer.from("small"))
      intake.recover(0)
      intake.expected = position.delivery
      assert.isTrue(intake.receive(message, position, "$JS.ACK.x"))
      const [held] = intake.held.values()
      for (const part of partsOf(held!.message)) assert.isAtMost(part.buffer.byteLength, Buffer.poolSize)
      intake.flow()
      yield* T.waitUntil("it is taken", () => taken.length === 1)
      assert.strictEqual(taken[0], held!.message)
      assert.strictEqual(held!.size, 5)
    })))
})
