/**
 * Links over @platformatic/kafka, of which its connection carries our requests, and
 * its own authentication says who we are. That needs brokers of Kafka 2.4 or later.
 */
import "../commonJs.js"

import type { Connection, SASLOptions } from "@platformatic/kafka"
import type { Credentials, Driver, Frame, Link, LinkOptions, Token } from "../Driver.js"
import { refusalOf, tuned } from "../Driver.js"
import { disconnected, KafkaFailure } from "../Failure.js"

/** Deadlines are ours. */
const NEVER_MS = 0x7fffffff
/** So are bounds of what is under way. */
const UNBOUNDED = 0x7fffffff

const givenUp = new Error("It was given up")

type Client = typeof import("@platformatic/kafka")

/** It fails where the package is not installed: bundlers have to know, too, that it need not be. */
export const load = async (): Promise<Driver> => {
  try {
    return driverOf(await import("@platformatic/kafka"))
  } catch (cause) {
    throw new Error("The package @platformatic/kafka can't be loaded", { cause })
  }
}

const driverOf = (client: Client): Driver => ({
  name: "platformatic",
  open: async ({ host, port }, options, signal) => {
    const connection = connectionOf(client, options)
    const abort = () => void connection.socket?.destroy(givenUp)
    signal.addEventListener("abort", abort, { once: true })
    try {
      const connected = new Promise<void>((resolve, reject) =>
        connection.connect(host, port, (error) => error ? reject(error) : resolve())
      )
      if (connection.socket !== undefined) tuned(connection.socket)
      await connected
      return linkOf(client, connection)
    } catch (error) {
      connection.socket?.destroy()
      // It leaves a timer behind where there was no socket at all.
      connection.emit("close")
      throw failureOf(error, false)
    } finally {
      signal.removeEventListener("abort", abort)
    }
  }
})

const connectionOf = (client: Client, { clientId, log, sasl, tls }: LinkOptions): Connection => {
  const connection = new client.Connection(clientId, {
    connectTimeout: NEVER_MS,
    requestTimeout: NEVER_MS,
    maxInflights: UNBOUNDED,
    ...(tls === undefined ? {} : { tls }),
    ...(sasl === undefined ? {} : { sasl: saslOf(client, sasl) })
  })
  // After an error it ends the socket, and waits for the broker to do the same.
  connection.on("error", (error) => {
    log({ message: error.message, details: { error: messageOf(error) } })
    connection.socket?.destroy()
  })
  // It leaves the timer of its next authentication behind where the broker has closed the connection.
  connection.on("close", () => connection.close(() => {}))
  return connection
}

const saslOf = (client: Client, sasl: Credentials): SASLOptions => {
  if (sasl.mechanism !== "oauthbearer") {
    const { mechanism, password, username } = sasl
    return { mechanism: mechanism.toUpperCase() as SASLOptions["mechanism"], username, password }
  }
  let token: Token | undefined
  return {
    mechanism: "OAUTHBEARER",
    token: async () => (token = await sasl.token()).value,
    // It is asked for them after the token.
    oauthBearerExtensions: () => ({ ...token?.extensions }),
    authBytesValidator: (answer, callback) => {
      const refusal = refusalOf(answer)
      if (refusal === undefined) callback(null, answer)
      else callback(new client.AuthenticationError(refusal))
    }
  }
}

const linkOf = (client: Client, connection: Connection): Link => ({
  isOpen: () => connection.status === "connected" || connection.status === "reauthenticating",
  dispose: () => {
    connection.socket.destroy()
    return Promise.resolve()
  },
  send: async (frame) => {
    while (connection.status === "reauthenticating") await authenticated(connection)
    if (connection.status !== "connected") throw disconnected("Not connected", false)
    return send(client, connection, frame)
  }
})

const send = ({ Writer }: Client, connection: Connection, { body, key, version }: Frame): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    connection.send<Buffer>(
      key,
      version,
      () => Writer.create().append(body),
      (_id, _key, _version, reader) => reader.buffer.slice(reader.position),
      false,
      false,
      (error, answer) => answer === undefined ? reject(failureOf(error, true)) : resolve(answer)
    )
  })

/** While it says who we are, the broker accepts nothing else. */
const authenticated = (connection: Connection): Promise<void> =>
  new Promise((resolve) => {
    const events = ["connect", "error", "close"] as const
    const end = () => {
      for (const event of events) connection.off(event, end)
      resolve()
    }
    for (const event of events) connection.on(event, end)
  })

/** An error and what caused it, the cause of all last. Errors of several answers are wrapped. */
const chainOf = (error: unknown): ReadonlyArray<Error> => {
  const chain: Array<Error> = []
  let next = error
  while (next instanceof Error && !chain.includes(next)) {
    chain.push(next)
    next = next.cause ?? (next instanceof AggregateError ? next.errors[0] : undefined)
  }
  return chain
}

const messageOf = (error: unknown): string => chainOf(error).at(-1)?.message ?? String(error)

const AUTHENTICATION = "PLT_KFK_AUTHENTICATION"
const NETWORK = "PLT_KFK_NETWORK"

const failureOf = (error: unknown, sent: boolean): KafkaFailure => {
  const chain = chainOf(error)
  const root: Error & { readonly code?: unknown; readonly syscall?: unknown } = chain.at(-1) ?? new Error(String(error))
  const own = chain.find((error) => error instanceof KafkaFailure)
  if (own !== undefined) return own
  const isOf = (code: string) => chain.some((error) => "code" in error && error.code === code)
  // Where the link is lost while we say who we are, that is no answer.
  if (isOf(AUTHENTICATION) && root.code !== NETWORK && root.syscall === undefined) {
    return new KafkaFailure({ type: "Authentication", sent: false, cause: root })
  }
  return !sent || isOf(NETWORK) || root.syscall !== undefined
    ? disconnected(root, sent)
    : new KafkaFailure({ type: "Client", sent, cause: error })
}
