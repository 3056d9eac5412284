/** A server on a socket that speaks Kafka's frames, and answers as the test says: for what no good broker does. */
import { Effect } from "effect"
import type { AddressInfo, Socket } from "node:net"
import { createServer } from "node:net"

export interface Asked {
  readonly apiKey: number
  readonly apiVersion: number
  readonly body: Buffer
  /** How many connections had been made before this one. */
  readonly connection: number
}

export const API_VERSIONS = 18

/** A broker says so that it speaks these versions of its requests. */
export const versions = (ranges: Readonly<Record<number, number>>): Buffer => {
  const bytes = Buffer.alloc(10 + 6 * Object.keys(ranges).length)
  bytes.writeInt32BE(Object.keys(ranges).length, 2)
  Object.entries(ranges).forEach(([key, max], i) => {
    bytes.writeInt16BE(Number(key), 6 + 6 * i)
    bytes.writeInt16BE(max, 10 + 6 * i)
  })
  return bytes
}

/** Answers with a body, or with bytes as they are; nothing is answered for `undefined`. It ends with the scope. */
export const serve = (answer: (asked: Asked) => Buffer | { readonly raw: Buffer } | undefined) =>
  Effect.gen(function*() {
    const sockets = new Set<Socket>()
    const asked: Array<Asked> = []
    let connections = 0
    const server = createServer((socket) => {
      const connection = connections++
      sockets.add(socket)
      socket.on("error", () => {})
      socket.once("close", () => sockets.delete(socket))
      let received = Buffer.alloc(0)
      socket.on("data", (chunk) => {
        received = Buffer.concat([received, chunk])
        for (;;) {
          if (received.length < 4) return
          const end = 4 + received.readInt32BE(0)
          if (received.length < end) return
          const frame = received.subarray(4, end)
          received = received.subarray(end)
          const one: Asked = {
            apiKey: frame.readInt16BE(0),
            apiVersion: frame.readInt16BE(2),
            body: frame.subarray(10 + Math.max(0, frame.readInt16BE(8))),
            connection
          }
          asked.push(one)
          const body = answer(one)
          if (body === undefined) continue
          if ("raw" in body) {
            socket.write(body.raw)
            continue
          }
          const head = Buffer.alloc(8)
          head.writeInt32BE(4 + body.length, 0)
          frame.copy(head, 4, 4, 8)
          socket.write(Buffer.concat([head, body]))
        }
      })
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return {
      address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
      asked,
      open: () => sockets.size
    }
  })
