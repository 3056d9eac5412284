import type { Client, Message, OnMessage } from "../src/internal/Client.js"
import { Closing } from "../src/internal/Closing.js"
import type { Connection, Listener } from "../src/internal/Connection.js"
import type { Frame } from "../src/internal/Frame.js"
import { Replies } from "../src/internal/Replies.js"

/** A connection without a server: keeps what is sent over it, and brings what the test answers. */
export const fakeConnection = () => {
  let onMessage: OnMessage = () => {}
  const scene = {
    isUp: true,
    /** Undefined: the client is open. What it throws when something is sent over it. */
    closed: undefined as Error | undefined,
    sent: [] as Array<Frame>,
    /** What goes through the client's own way: where it is to be answered. */
    published: [] as Array<{ readonly subject: string; readonly reply: string | undefined }>,
    listeners: new Set<Listener>()
  }
  const client = {
    isClosed: () => scene.closed !== undefined,
    publish: (subject: string, _: Uint8Array, reply?: string) => {
      if (scene.closed !== undefined) throw scene.closed
      scene.published.push({ subject, reply })
    },
    subscribe: (_: string, callback: OnMessage) => onMessage = callback
  } as unknown as Client
  const connection = {
    client,
    isUp: () => scene.isUp,
    maxPayload: () => 1_048_576,
    inbox: "_INBOX.test",
    closing: new Closing(5_000),
    pulse: new Set(),
    replies: new Replies(client, "_INBOX.test.r"),
    listeners: scene.listeners,
    wire: {
      publish: (frame: Frame) => {
        if (scene.closed !== undefined) throw scene.closed
        scene.sent.push(frame)
      }
    }
  } as unknown as Connection
  /** Without a body as the server answers acknowledgements. */
  const answer = (subject: string, body?: object) => {
    const data = body === undefined ? new Uint8Array(0) : Buffer.from(JSON.stringify(body))
    onMessage(undefined, { subject, data })
  }
  /** What the server says of a pull request. */
  const status = (subject: string, code: number, description: string) =>
    onMessage(undefined, { subject, data: new Uint8Array(0), headers: { code, description } } as Message)
  const noResponders = (subject: string) =>
    onMessage(undefined, { subject, data: new Uint8Array(0), headers: { code: 503 } } as Message)
  return Object.assign(scene, { answer, connection, noResponders, status })
}

/** The connection is back: what was sent before is sent again. */
export const reconnect = (scene: ReturnType<typeof fakeConnection>): void => {
  scene.isUp = true
  for (const listener of [...scene.listeners]) listener.onReconnect?.()
}
