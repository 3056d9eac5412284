/**
 * The seam around kafkajs: one connection to one broker that speaks Kafka's
 * protocol. Of kafkajs this package uses the connection (framing, SASL, TLS,
 * time limits of requests) and the codecs of most requests, and none of its loops:
 * its producer reuses sequence numbers after a lost answer, and its consumer joins
 * again without waiting for anybody, which can't be mended from outside. Another
 * client needs this module again and nothing else.
 *
 * Promises, because kafkajs speaks them; `Client.ts` turns them into effects.
 */
import loggers from "kafkajs/src/loggers/index.js"
import Connection from "kafkajs/src/network/connection.js"
import Encoder from "kafkajs/src/protocol/encoder.js"
import protocolErrors from "kafkajs/src/protocol/error.js"
import apiKeys from "kafkajs/src/protocol/requests/apiKeys.js"
import protocol from "kafkajs/src/protocol/requests/index.js"
import * as net from "node:net"
import * as tls from "node:tls"
import * as Produce from "./produce.js"
import { decodeFetchResponse } from "./records.js"
import type { OwnRequest } from "./requests.js"
import * as requests from "./requests.js"

export type Api =
  | "ApiVersions"
  | "CreatePartitions"
  | "CreateTopics"
  | "DescribeConfigs"
  | "DescribeGroups"
  | "Fetch"
  | "GroupCoordinator"
  | "Heartbeat"
  | "IncrementalAlterConfigs"
  | "InitProducerId"
  | "JoinGroup"
  | "LeaveGroup"
  | "ListOffsets"
  | "Metadata"
  | "OffsetCommit"
  | "OffsetFetch"
  | "OffsetForLeaderEpoch"
  | "Produce"
  | "SaslAuthenticate"
  | "SyncGroup"

export interface Address {
  readonly host: string
  readonly port: number
}

export interface LogEntry {
  readonly message: string
  readonly details: Record<string, unknown>
}

export interface WireOptions {
  readonly clientId: string
  /** How long connecting may take: until the broker has said what it speaks, and who we are has been accepted. */
  readonly connectionTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly tls: tls.ConnectionOptions | undefined
  readonly sasl: { readonly mechanism: string; readonly username: string; readonly password: string } | undefined
  readonly log: (entry: LogEntry) => void
  /** The sockets that are in use, for whoever has to end them all. */
  readonly sockets: Set<net.Socket>
}

/** An open, authenticated connection. A request that times out ends it: what comes late must not meet what comes next. */
export interface Link {
  readonly isOpen: () => boolean
  /** Error codes stay in the answer, for each partition: nothing is thrown for them. */
  readonly send: <A>(api: Api, payload: object, timeoutMs?: number) => Promise<A>
  readonly dispose: () => Promise<void>
}

const KEEP_ALIVE_MS = 30_000
const API_VERSIONS = [2, 1, 0]

/** Connects, agrees on the versions of the requests, and authenticates. */
export const open = async (address: Address, options: WireOptions): Promise<Link> => {
  const connection = new Connection({
    ...address,
    clientId: options.clientId,
    connectionTimeout: options.connectionTimeoutMs,
    requestTimeout: options.requestTimeoutMs,
    // It takes no shorter deadline than this one, and counts by the clock on the wall: deadlines are ours.
    enforceRequestTimeout: false,
    ssl: options.tls ?? null,
    // kafkajs keeps its authenticator in this object.
    sasl: options.sasl === undefined ? null : { ...options.sasl },
    logger: makeLogger(options.log),
    socketFactory: makeSocketFactory(options.sockets)
  })
  restOnIdle(connection)
  const opening = async () => {
    await connection.connect()
    const versions = await apiVersions(connection)
    connection.setVersions(versions)
    connection.setSupportAuthenticationProtocol(apiKeys["SaslAuthenticate"]! in versions)
    await connection.authenticate()
    return versions
  }
  try {
    const { connectionTimeoutMs } = options
    const versions = await within(
      opening(),
      connectionTimeoutMs,
      (millis) => new NotConnected(`The broker was not ready within ${millis} ms`)
    )
    return link(connection, versions, options)
  } catch (error) {
    await dispose(connection)
    throw error
  }
}

const link = (connection: Connection, versions: Versions, options: WireOptions): Link => {
  const lookup = protocol.lookup(versions)
  return {
    isOpen: () => connection.isConnected(),
    dispose: () => dispose(connection),
    send: async <A>(api: Api, payload: object, timeoutMs?: number): Promise<A> => {
      const own = ownRequests[api]
      const call = own !== undefined && (versions[own.apiKey]?.maxVersion ?? -1) >= own.apiVersion
        ? requests.callOf(api, own, payload)
        : lookup(apiKeys[api]!, known(api))(payload)
      const encoded = await encode(
        api === "Produce" && call.request.apiVersion < Produce.VERSION ? produceOf(call.request, payload) : call.request
      )
      const decode = api === "Fetch"
        ? async (raw: Buffer) => decodeFetchResponse(raw, call.request.apiVersion)
        : call.response.decode
      try {
        return await within(
          connection.send({
            request: { ...call.request, encode: () => Promise.resolve(encoded) },
            response: { decode, parse: (decoded: unknown) => Promise.resolve(decoded) },
            logResponseError: false
          }) as Promise<A>,
          timeoutMs ?? Math.max(options.requestTimeoutMs, "requestTimeout" in call ? call.requestTimeout ?? 0 : 0),
          (millis) => new NotAnswered(`${api} was not answered within ${millis} ms`),
          // What the broker asked us to hold back for so long is not late.
          () => connection.requestQueue.throttledUntil - Date.now()
        )
      } catch (error) {
        if (error instanceof NotAnswered) await dispose(connection)
        throw error
      }
    }
  }
}

/** A broker that was not ready for requests in time. */
export class NotConnected extends Error {
  override readonly name = "NotConnected"
}

/** A request that was sent, and had no answer in time. */
export class NotAnswered extends Error {
  override readonly name = "NotAnswered"
}

/** By timers that nobody's clock sets. Where the process was asleep, what came meanwhile is looked at first. */
const within = <A>(
  promise: Promise<A>,
  millis: number,
  late: (millis: number) => Error,
  extra: () => number = () => 0
): Promise<A> =>
  new Promise<A>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined
    let grace: NodeJS.Immediate | undefined
    const begin = (delay: number): void => {
      timer = setTimeout(() => {
        const more = extra()
        if (more > 0) return begin(more)
        grace = setImmediate(() => reject(late(millis)))
      }, delay)
    }
    begin(millis)
    const end = () => {
      clearTimeout(timer)
      clearImmediate(grace)
    }
    promise.then((value) => {
      end()
      resolve(value)
    }, (error: unknown) => {
      end()
      reject(error instanceof Error ? error : new Error(String(error)))
    })
  })

/** A request that can't be written, whatever connection it is given to: nothing of it was sent. */
export class NotEncoded extends Error {
  override readonly name = "NotEncoded"
}

const encode = async (request: { readonly encode: () => Promise<unknown> }): Promise<unknown> => {
  try {
    return await request.encode()
  } catch (cause) {
    throw new NotEncoded("The request can't be encoded", { cause })
  }
}

/** In a version that kafkajs has, too: the answer is read by it. */
const produceOf = ({ apiVersion }: { readonly apiVersion: number }, payload: object) => ({
  encode: async () => {
    if (apiVersion < Produce.MIN_VERSION) throw new Error("The broker is older than Kafka 0.11")
    const body = await Produce.encode(payload as Produce.ProduceRequest)
    return new Encoder(body.length).writeBuffer(body)
  }
})

/** The broker is too old for a request that kafkajs doesn't have either. */
export class NotSupported extends Error {
  override readonly name = "NotSupported"
}

const known = (api: Api) => {
  const definition = protocol.requests[api]
  if (definition === undefined) throw new NotSupported(`The broker does not know ${api} in the version that is needed`)
  return definition
}

/** Where the broker speaks these versions, they are used. */
const ownRequests: { readonly [api: string]: OwnRequest | undefined } = {
  Fetch: requests.fetch,
  IncrementalAlterConfigs: requests.incrementalAlterConfigs,
  ListOffsets: requests.listOffsets,
  Metadata: requests.metadata,
  OffsetForLeaderEpoch: requests.offsetForLeaderEpoch,
  Produce: requests.produce
}

interface Versions {
  readonly [key: number]: { readonly minVersion: number; readonly maxVersion: number }
}

const apiVersions = async (connection: Connection): Promise<Versions> => {
  for (const version of API_VERSIONS) {
    try {
      const call = protocol.requests["ApiVersions"]!.protocol({ version })()
      const response = await connection.send({ ...call, logResponseError: false }) as {
        readonly apiVersions: ReadonlyArray<{ apiKey: number; minVersion: number; maxVersion: number }>
      }
      return Object.fromEntries(response.apiVersions.map(({ apiKey, ...range }) => [apiKey, range]))
    } catch (error) {
      if (typeOf(error) !== "UNSUPPORTED_VERSION") throw error
    }
  }
  throw new Error("The broker does not say which versions of the protocol it speaks")
}

/** Ends a connection at once: what waits for an answer is rejected, and no timer or socket is left. */
const dispose = async (connection: Connection): Promise<void> => {
  connection.requestQueue.rejectAll(closed())
  await connection.disconnect()
  connection.socket?.destroy()
}

const closed = (): Error =>
  Object.assign(new Error("The connection was closed"), { name: "KafkaJSConnectionClosedError" })

/** kafkajs looks every millisecond for throttled requests, for ever, once a connection has had an answer. */
const restOnIdle = (connection: Connection): void => {
  const queue = connection.requestQueue
  queue.scheduleCheckPendingRequests = () => {
    if (queue.throttleCheckTimeoutId !== null || queue.pending.length === 0) return
    queue.throttleCheckTimeoutId = setTimeout(() => {
      queue.throttleCheckTimeoutId = null
      queue.checkPendingRequests()
    }, Math.max(10, queue.throttledUntil - Date.now()))
  }
}

const makeSocketFactory = (sockets: Set<net.Socket>) =>
(options: {
  readonly host: string
  readonly port: number
  readonly ssl: tls.ConnectionOptions | null
  readonly onConnect: () => void
}): net.Socket => {
  const { host, onConnect, port, ssl } = options
  const socket = ssl === null
    ? net.connect({ host, port }, onConnect)
    : tls.connect({ host, port, ...(net.isIP(host) === 0 ? { servername: host } : {}), ...ssl }, onConnect)
  sockets.add(socket)
  socket.once("close", () => sockets.delete(socket))
  socket.setNoDelay(true)
  socket.setKeepAlive(true, KEEP_ALIVE_MS)
  return socket
}

/** Whatever level kafkajs gives a line: what it calls an error is handled here, or reported typed. */
const makeLogger = (log: WireOptions["log"]): unknown =>
  loggers.createLogger({
    level: loggers.LEVELS.INFO,
    logCreator: () => ({ log: { message, ...details } }) => log({ message, details })
  })

const types = new Map(protocolErrors.errorCodes.map(({ code, type }) => [code, type]))
const newerTypes = new Map([
  [87, "INVALID_RECORD"],
  [89, "THROTTLING_QUOTA_EXCEEDED"],
  [90, "PRODUCER_FENCED"],
  [100, "UNKNOWN_TOPIC_ID"],
  [103, "INCONSISTENT_TOPIC_ID"],
  [106, "FETCH_SESSION_TOPIC_ID_ERROR"],
  [111, "UNRELEASED_INSTANCE_ID"]
])

/** The name of one of the protocol's error codes. */
export const errorType = (code: number): string => types.get(code) ?? newerTypes.get(code) ?? `ERROR_${code}`

export const isNamed = (error: unknown, name: string): boolean => error instanceof Error && error.name === name

/** The protocol's name of an error that kafkajs throws. */
export const typeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "type" in error && typeof error.type === "string"
    ? error.type
    : undefined
