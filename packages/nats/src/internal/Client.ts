/**
 * All that touches the package `nats`, of which also parts are used that it does not export. Everything else is written against what is
 * here, so that another client has one file to fit: its successors, the packages `@nats-io/transport-node` and `@nats-io/nats-core`, are
 * taken by it as they are, and the tests run on them, too.
 */
import "./commonJs.js"

import * as Nats from "nats"
import type { GivenConnection } from "../NatsConfig.js"
import type { Denied } from "../NatsErrors.js"

/** A received message, whose bytes are a part of what the socket brought. */
export interface Message {
  readonly subject: string
  readonly reply?: string | undefined
  readonly data: Uint8Array
  /** Of an answer of the server itself, which has no body. */
  readonly headers?: { readonly code: number; readonly description: string } | undefined
}

/** A subscription that the server has refused; nothing comes over it any more. */
export interface Refused {
  readonly message: string
  readonly denied: Denied | undefined
}

export type OnMessage = (refused: Refused | undefined, message: Message) => void

export interface Subscription {
  readonly unsubscribe: () => void
}

/** What changes while a connection lasts. */
export type Event =
  | { readonly _tag: "Disconnected" | "Reconnected" | "LameDuck"; readonly server: string }
  | { readonly _tag: "Failed"; readonly code: string; readonly denied: Denied | undefined }

/** What the server has said of itself; undefined while the client reconnects. */
export interface ServerInfo {
  readonly version: string
  readonly maxPayload: number
}

export interface Client {
  /** `headers` is a header block. Throws when the client is closed, or does not take the message. */
  readonly publish: (subject: string, data: Uint8Array, reply?: string, headers?: Uint8Array) => void
  /** Over a client that is closed nothing comes. */
  readonly subscribe: (subject: string, onMessage: OnMessage) => Subscription
  /** Whether `write` may be used for a message of so many bytes. What it may not be used for is left to `publish`. */
  readonly takes: (size: number) => boolean
  /** Sends commands of the protocol as they are, in the order of what is published. */
  readonly write: (commands: Uint8Array) => void
  /** Calls it for each event as long as the client lasts, or until what it returns is called. */
  readonly watch: (onEvent: (event: Event) => void) => () => void
  /** The server that is connected, or was last, as `host:port`. */
  readonly server: () => string
  readonly info: () => ServerInfo | undefined
  /** For good, or it is being drained: nothing can be sent over it any more. */
  readonly isClosed: () => boolean
  /** Ends when the server has answered what was written before. */
  readonly flush: () => Promise<void>
  /** Ends when the client is closed for good, with the reason where nobody wanted it. */
  readonly closed: () => Promise<unknown>
  /** Closes it when what was written is out; `false` where the connection broke before, and it still has to be closed. */
  readonly drain: () => Promise<boolean>
  readonly close: () => Promise<void>
}

/** The client over a connection that somebody else has made. */
export const ofGiven = (connection: GivenConnection): Client => of(connection as Nats.NatsConnection)

export type ConnectOptions = Nats.ConnectionOptions
export type Authenticator = Nats.Authenticator
export type TlsOptions = Nats.TlsOptions

export const { createInbox, credsAuthenticator, nkeyAuthenticator } = Nats

export const connect = async (options: ConnectOptions): Promise<Client> => {
  const connection = await Nats.connect(options)
  const client = of(connection)
  const abandon = tidied(connection)
  const drain = async () => {
    const isClosed = await client.drain()
    if (isClosed) abandon()
    return isClosed
  }
  return { ...client, drain, close: () => client.close().finally(abandon) }
}

/** One attempt of the client to connect, and the connection that comes of it. */
interface Attempt {
  readonly connected?: boolean
  socket?: { readonly destroy: () => void }
}

/**
 * Makes a client end the socket of an attempt to connect that it gives up: when a server takes the connection and says nothing in time,
 * and when the client is closed meanwhile. The client forgets such sockets, and one that stays open keeps the process
 * alive. The answer is for when the client has been closed.
 */
const tidied = (connection: Nats.NatsConnection): () => void => {
  const protocol = (connection as unknown as { readonly protocol?: { transport?: Attempt } }).protocol
  let attempt = protocol?.transport
  if (protocol === undefined || attempt === undefined) return () => {}
  let isOver = false
  Object.defineProperty(protocol, "transport", {
    configurable: true,
    enumerable: true,
    get: () => attempt,
    set: (next: Attempt) => {
      if (attempt !== undefined && attempt.connected !== true) end(attempt)
      attempt = next
      // An attempt can begin in the moment in which the client is closed.
      if (isOver) end(next)
    }
  })
  return () => {
    isOver = true
    if (attempt !== undefined) end(attempt)
  }
}

const end = (attempt: Attempt): void => {
  let { socket } = attempt
  if (socket !== undefined) return socket.destroy()
  // Its address has not answered yet, and may do so at any time.
  Object.defineProperty(attempt, "socket", {
    configurable: true,
    get: () => socket,
    set: (late: NonNullable<Attempt["socket"]>) => {
      socket = late
      late.destroy()
    }
  })
}

/** What `publish` itself goes through, and is not exported. */
interface Protocol {
  readonly noMorePublishing: boolean
  readonly sendCommand: (command: Uint8Array) => void
}

/** A connection of the package `nats`, or of `@nats-io/transport-node`. */
export const of = (connection: Nats.NatsConnection): Client => {
  const hidden = (connection as unknown as { readonly protocol?: Partial<Protocol> }).protocol
  const isClosed = () => connection.isClosed() || connection.isDraining()
  const protocol = typeof hidden?.sendCommand === "function" ? hidden as Protocol : undefined
  return {
    publish: (subject, data, reply, headers) =>
      connection.publish(subject, data, {
        ...(reply === undefined ? {} : { reply }),
        ...(headers === undefined ? {} : { headers: new Block(headers) })
      }),
    subscribe: (subject, onMessage) =>
      isClosed() ? { unsubscribe: () => {} } : connection.subscribe(subject, {
        callback: (error, message) => onMessage(error === null ? undefined : toRefused(error), message)
      }),
    takes: (size) =>
      protocol !== undefined && !isClosed() && !protocol.noMorePublishing &&
      connection.info?.headers === true && size <= connection.info.max_payload,
    write: (commands) => protocol?.sendCommand(commands),
    watch: (onEvent) => watch(connection, onEvent),
    server: () => connection.getServer(),
    info: () =>
      connection.info === undefined
        ? undefined
        : { version: connection.info.version, maxPayload: connection.info.max_payload },
    isClosed,
    flush: () => connection.flush(),
    closed: () => connection.closed(),
    // Where the connection breaks meanwhile, the client ends its draining without an error, and is not closed.
    drain: () => connection.drain().then(() => connection.isClosed(), () => false),
    close: () => connection.close()
  }
}

/** The client only asks headers for their bytes. */
const Block = class {
  constructor(private readonly bytes: Uint8Array) {}
  encode(): Uint8Array {
    return this.bytes
  }
} as unknown as new(bytes: Uint8Array) => Nats.MsgHdrs

/** The client tells its states through an iterator, which has no end by itself as long as the client lasts. */
const watch = (connection: Nats.NatsConnection, onEvent: (event: Event) => void): () => void => {
  const states: AsyncIterable<Status> & { readonly stop?: () => void } = connection.status()
  let isOver = false
  void (async () => {
    for await (const status of states) {
      const event = isOver ? undefined : toEvent(status)
      if (event !== undefined) onEvent(event)
    }
  })()
  return () => {
    isOver = true
    states.stop?.()
  }
}

/** A status of `nats`, and of its successor, which has other fields. */
interface Status {
  readonly type: string
  readonly data?: unknown
  readonly permissionContext?: Permission | undefined
  readonly server?: string
  readonly error?: Error
}

interface Permission {
  readonly operation: string
  readonly subject: string
}

const toEvent = (status: Status): Event | undefined => {
  const server = String(status.server ?? status.data)
  switch (status.type) {
    case "disconnect":
      return { _tag: "Disconnected", server }
    case "reconnect":
      return { _tag: "Reconnected", server }
    case "ldm":
      return { _tag: "LameDuck", server }
    case "error":
      return {
        _tag: "Failed",
        code: status.error === undefined ? String(status.data) : status.error.message,
        denied: toDenied(status.permissionContext ?? status.error)
      }
    default:
      return undefined
  }
}

const toRefused = (error: Error): Refused => ({
  message: error.message,
  denied: toDenied((error as { readonly permissionContext?: Permission }).permissionContext ?? error)
})

const toDenied = (permission: object | undefined): Denied | undefined => {
  const { operation, subject } = (permission ?? {}) as Partial<Permission>
  return operation === undefined || subject === undefined
    ? undefined
    : { operation: operation === "publish" ? "publish" : "subscribe", subject }
}

const encoder = new TextEncoder()
const empty = new Uint8Array(0)

/** What the client's message object holds and does not export. Its own parsing of headers throws on names that others may well write. */
interface Parts {
  readonly _msg?: { readonly hdr: number; readonly subject: Uint8Array } | undefined
  readonly _rdata?: Uint8Array | undefined
}

/** Whether the client gives the parts of its messages: without them headers would vanish. */
export const isReadable = (message: Message): boolean => {
  const { _msg, _rdata } = message as Parts
  return typeof _msg?.hdr === "number" && _msg.subject instanceof Uint8Array && _rdata instanceof Uint8Array
}

/** The header block of a message as bytes; empty where there is none. */
export const headerBlock = (message: Message): Uint8Array => {
  const { _msg, _rdata } = message as Parts
  return _msg === undefined || _rdata === undefined || _msg.hdr <= 0 ? empty : _rdata.subarray(0, _msg.hdr)
}

/** The subject's bytes, which the client would make a text of. */
export const subjectBytes = (message: Message): Uint8Array => {
  const { _msg } = message as Parts
  return _msg === undefined ? encoder.encode(message.subject) : _msg.subject
}

/** The status code of a message without a body; 0 where there is none. */
export const statusOf = (message: Message): number => message.headers?.code ?? 0
