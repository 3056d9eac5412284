/**
 * Links over kafkajs. Of it this package uses the connection (framing, TLS, SASL) and
 * none of its loops: its producer reuses sequence numbers after a lost answer, and its
 * consumer joins again without waiting for anybody, which can't be mended from outside.
 */
import "../commonJs.js"

import type { AuthenticationProviderArgs } from "kafkajs"
import loggers from "kafkajs/src/loggers/index.js"
import Connection from "kafkajs/src/network/connection.js"
import Encoder from "kafkajs/src/protocol/encoder.js"
import apiKeys from "kafkajs/src/protocol/requests/apiKeys.js"
import protocol from "kafkajs/src/protocol/requests/index.js"
import * as net from "node:net"
import * as tls from "node:tls"
import type { Address, Credentials, Driver, Frame, Link, LinkOptions, Token } from "../Driver.js"
import { refusalOf, tuned } from "../Driver.js"
import { disconnected, KafkaFailure } from "../Failure.js"

const givenUp = new Error("It was given up")
/** When so much of a session is left, it is prolonged. */
const LEFT_OF_SESSION = 0.2
/** Deadlines are ours. kafkajs counts some by the clock on the wall. */
const NEVER_MS = 0x7fffffff

export const driver: Driver = {
  name: "kafkajs",
  open: async (address, options, signal) => {
    const connection = connectionTo(address, options)
    const abort = () => void dispose(connection, givenUp)
    signal.addEventListener("abort", abort, { once: true })
    try {
      await connection.connect()
      if (options.sasl !== undefined) await authenticate(connection)
      return linkOf(connection)
    } catch (error) {
      await dispose(connection)
      throw failureOf(error, false)
    } finally {
      signal.removeEventListener("abort", abort)
    }
  }
}

const connectionTo = (address: Address, { clientId, log, sasl, tls }: LinkOptions): Connection => {
  const connection = new Connection({
    ...address,
    clientId,
    connectionTimeout: NEVER_MS,
    requestTimeout: NEVER_MS,
    enforceRequestTimeout: false,
    ssl: tls ?? null,
    sasl: sasl === undefined ? null : saslOf(sasl),
    logger: loggerOf(log),
    socketFactory
  })
  // It looks every millisecond for throttled requests, for ever, once it has had an answer. Throttling is ours.
  connection.requestQueue.scheduleCheckPendingRequests = () => {}
  // It authenticates again so long before it has to, in milliseconds; a constant would be always for short sessions.
  Object.defineProperty(connection, "reauthenticationThreshold", {
    get: () => Math.floor(Number(connection.sessionLifetime) * LEFT_OF_SESSION)
  })
  return connection
}

/** kafkajs keeps its authenticator in this object. Its own of tokens does not look at the answer. */
const saslOf = (sasl: Credentials): Record<string, unknown> =>
  sasl.mechanism !== "oauthbearer" ? { ...sasl } : {
    mechanism: sasl.mechanism,
    authenticationProvider: ({ saslAuthenticate }: AuthenticationProviderArgs) => ({
      authenticate: async () => {
        const bytes = messageOf(await sasl.token())
        const refusal = await saslAuthenticate<string | undefined>({
          request: { encode: () => new Encoder(bytes.length + 4).writeBytes(bytes).buffer },
          response: { decode: (raw: Buffer) => raw.subarray(4), parse: refusalOf }
        })
        if (refusal !== undefined) throw notAccepted(refusal)
      }
    })
  }

const messageOf = ({ extensions, value }: Token): Buffer => {
  const more = Object.entries(extensions).map(([name, value]) => `${name}=${value}\u0001`).join("")
  return Buffer.from(`n,,\u0001auth=Bearer ${value}\u0001${more}\u0001`)
}

const notAccepted = (cause: string): KafkaFailure => new KafkaFailure({ type: "Authentication", sent: false, cause })

/** How it authenticates depends on what the broker speaks. */
const authenticate = async (connection: Connection): Promise<void> => {
  const call = protocol.requests["ApiVersions"]!.protocol({ version: 0 })()
  const { apiVersions } = await connection.send({ ...call, logResponseError: false }) as {
    readonly apiVersions: ReadonlyArray<{ apiKey: number; minVersion: number; maxVersion: number }>
  }
  const versions = Object.fromEntries(apiVersions.map(({ apiKey, ...range }) => [apiKey, range]))
  connection.setVersions(versions)
  connection.setSupportAuthenticationProtocol(apiKeys["SaslAuthenticate"]! in versions)
  await connection.authenticate()
}

const linkOf = (connection: Connection): Link => ({
  isOpen: () => connection.isConnected(),
  dispose: () => dispose(connection),
  send: async ({ body, key, name, version }: Frame): Promise<Buffer> => {
    try {
      return await connection.send({
        request: {
          apiKey: key,
          apiVersion: version,
          apiName: name,
          encode: () => Promise.resolve(new Encoder(body.length).writeBuffer(body))
        },
        response: { decode: (raw: Buffer) => Promise.resolve(raw), parse: (raw: Buffer) => Promise.resolve(raw) },
        logResponseError: false
      })
    } catch (error) {
      throw failureOf(error, true)
    }
  }
})

const dispose = async (connection: Connection, why?: Error): Promise<void> => {
  connection.requestQueue.rejectAll(disconnected("The link was closed", true))
  await connection.disconnect()
  connection.socket?.destroy(why)
}

const socketFactory = (options: {
  readonly host: string
  readonly port: number
  readonly ssl: tls.ConnectionOptions | null
  readonly onConnect: () => void
}): net.Socket => {
  const { host, onConnect, port, ssl } = options
  return tuned(ssl === null ? net.connect({ host, port }, onConnect) : tls.connect({ ...ssl, host, port }, onConnect))
}

/** Whatever level kafkajs gives a line: what it calls an error is handled here, or reported typed. */
const loggerOf = (log: LinkOptions["log"]): unknown =>
  loggers.createLogger({
    level: loggers.LEVELS.INFO,
    logCreator: () => ({ log: { message, ...details } }) => log({ message, details })
  })

/** What is found out before anything is written. */
const NOT_CONNECTED = "Not connected"

/** The kind of the failure says so already. */
const PREFIX = "Connection error: "
const withoutPrefix = (message: string, cause: unknown): unknown =>
  message.startsWith(PREFIX) ? new Error(message.slice(PREFIX.length), { cause }) : cause

const failureOf = (cause: unknown, sent: boolean): KafkaFailure => {
  if (cause instanceof KafkaFailure) {
    return cause.type === "Connection" && !sent ? disconnected(cause.cause, false) : cause
  }
  const { message, name, type = "" }: Error & { readonly type?: string } = cause instanceof Error ? cause : new Error()
  if (name.startsWith("KafkaJSSASL") || type.includes("SASL")) {
    return new KafkaFailure({ type: "Authentication", sent: false, cause })
  }
  return name === "KafkaJSConnectionError" || name === "KafkaJSConnectionClosedError"
    ? disconnected(withoutPrefix(message, cause), sent && message !== NOT_CONNECTED)
    : new KafkaFailure({ type: "Client", sent, cause })
}
