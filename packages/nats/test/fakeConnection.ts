import type { Msg, NatsConnection } from "nats"
import type { Connection, Listener } from "../src/internal/Connection.js"
import type { Frame } from "../src/internal/Frame.js"
import { Replies } from "../src/internal/Replies.js"

/** A connection without a server: keeps what is sent over it, and brings what the test answers. */
export const fakeConnection = () => {
  let callback: (error: Error | null, message: Msg) => void = () => {}
  const scene = {
    isUp: true,
    /** Undefined: the client is open. What it throws when something is sent over it. */
    closed: undefined as Error | undefined,
    sent: [] as Array<Frame>,
    listeners: new Set<Listener>()
  }
  const client = {
    isClosed: () => scene.closed !== undefined,
    subscribe: (_: string, options: { readonly callback: typeof callback }) => callback = options.callback
  } as unknown as NatsConnection
  const connection = {
    client,
    isUp: () => scene.isUp,
    maxPayload: () => 1_048_576,
    inbox: "_INBOX.test",
    replies: new Replies(client, "_INBOX.test.r"),
    listeners: scene.listeners,
    wire: {
      publish: (frame: Frame) => {
        if (scene.closed !== undefined) throw scene.closed
        scene.sent.push(frame)
      }
    }
  } as unknown as Connection
  const answer = (subject: string, body: object) =>
    callback(null, { subject, data: Buffer.from(JSON.stringify(body)) } as unknown as Msg)
  return Object.assign(scene, { answer, connection })
}

/** The connection is back: what was sent before is sent again. */
export const reconnect = (scene: ReturnType<typeof fakeConnection>): void => {
  scene.isUp = true
  for (const listener of [...scene.listeners]) listener.onReconnect?.()
}
