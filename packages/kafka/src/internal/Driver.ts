/**
 * The border below which a client of Kafka's protocol may be exchanged. A driver opens
 * links to addresses, says there who we are, and carries the bytes of requests and
 * answers. What these say, and all deadlines, retries and loops are above it: that
 * knows neither the client nor its errors.
 *
 * Promises, because clients speak them; `Client` turns them into effects. They
 * reject with a `KafkaFailure`, and with nothing else.
 */
import type { Socket } from "node:net"
import type { ConnectionOptions } from "node:tls"

export interface Address {
  readonly host: string
  readonly port: number
}

/** Of `host:port`, where the host may be in brackets. */
export const parseAddress = (address: string): Address => {
  const colon = address.lastIndexOf(":")
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(address.slice(colon + 1)) }
}

export interface Driver {
  /** As it stands in the configuration. */
  readonly name: string
  /**
   * Connects, and authenticates where that is wanted. It has no deadline of its own: when the signal is aborted, it gives up
   * at once, and leaves no socket and no timer.
   */
  readonly open: (address: Address, options: LinkOptions, signal: AbortSignal) => Promise<Link>
}

export interface LinkOptions {
  readonly clientId: string
  /** With the server's name; left out for a link without TLS. */
  readonly tls: ConnectionOptions | undefined
  readonly sasl: Credentials | undefined
  /** What the client says that nobody needs to know, save whoever looks for a fault in it. */
  readonly log: (entry: LogEntry) => void
}

export type Credentials =
  | {
    readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
    readonly username: string
    readonly password: string
  }
  | {
    readonly mechanism: "oauthbearer"
    /** Asked for each time the link says who we are. It rejects with a `KafkaFailure`. */
    readonly token: () => Promise<Token>
    /** The broker has refused the last one. */
    readonly renew: () => void
  }

export interface Token {
  readonly value: string
  readonly extensions: Readonly<Record<string, string>>
}

/** A broker that does not accept a token answers with why, and not with an error. */
export const refusalOf = (answer: Buffer): string | undefined =>
  answer.length === 0 || answer.toString("latin1") === "\u0001" ? undefined : answer.toString("utf8")

export interface LogEntry {
  readonly message: string
  readonly details: Record<string, unknown>
}

export interface Frame {
  /** As it stands in messages. */
  readonly name: string
  readonly key: number
  readonly version: number
  /** All after the header, which is of version 1: without fields of later versions. */
  readonly body: Buffer
}

/** An open, authenticated link to a broker, which is authenticated again before the broker demands it. */
export interface Link {
  readonly isOpen: () => boolean
  /** The answer, without its header of version 0. It rejects when the link is lost, and waits for ever otherwise. */
  readonly send: (frame: Frame) => Promise<Buffer>
  /** Ends it at once: what waits for an answer is rejected, and no timer or socket is left. */
  readonly dispose: () => Promise<void>
}

const KEEP_ALIVE_MS = 30_000

/** As all links are, whichever driver opens them. */
export const tuned = <S extends Socket>(socket: S): S => {
  socket.setNoDelay(true)
  socket.setKeepAlive(true, KEEP_ALIVE_MS)
  return guarded(socket)
}

/** What is no frame at all throws in the client that reads it. That ends the link, and not the process. */
const guarded = <S extends Socket>(socket: S): S => {
  const on = socket.on.bind(socket) as (event: string, listener: (...args: Array<unknown>) => void) => S
  const listen: typeof on = (event, listener) =>
    event !== "data" ? on(event, listener) : on(event, (...args) => {
      try {
        listener(...args)
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error(String(error)))
      }
    })
  return Object.assign(socket, { on: listen })
}
