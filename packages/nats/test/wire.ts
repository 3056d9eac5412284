import { Effect } from "effect"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** A way to the server on which a test reads along, and leaves out what it wants to get lost. */
export interface Wire {
  readonly address: string
  /** What is carried on of what a client sends; an empty chunk is nothing. */
  toServer: (chunk: Buffer) => Buffer
  toClient: (chunk: Buffer) => Buffer
  /** How many bytes a millisecond are carried to clients. */
  rate: number
  /** Resets the connections; new ones are served. */
  readonly cut: () => void
}

export const wire = (server: string) =>
  Effect.acquireRelease(
    Effect.async<Wire & { readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const listener = createServer((from) => {
        const to = connect(Number(server.split(":")[1]), "127.0.0.1")
        sockets.add(from).add(to)
        from.on("data", (chunk) => to.write(made.toServer(chunk)))
        to.on("data", (chunk) => {
          from.write(made.toClient(chunk))
          if (made.rate === Infinity) return
          to.pause()
          setTimeout(() => to.resume(), chunk.length / made.rate)
        })
        for (const [one, other] of [[from, to], [to, from]] as const) {
          one.on("error", () => other.destroy()).on("close", () => other.destroy())
        }
      })
      const cut = () => {
        for (const socket of sockets) socket.destroy()
        sockets.clear()
      }
      const made: Wire & { readonly close: () => void; address: string } = {
        address: "",
        toServer: (chunk) => chunk,
        toClient: (chunk) => chunk,
        rate: Infinity,
        cut,
        close: () => {
          listener.close()
          cut()
        }
      }
      listener.listen(0, "127.0.0.1", () => {
        made.address = `127.0.0.1:${(listener.address() as AddressInfo).port}`
        resume(Effect.succeed(made))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
