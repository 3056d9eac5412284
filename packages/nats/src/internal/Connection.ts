/**
 * The one connection of a transport: made with a deadline, kept for ever, and
 * closed with one. Code that sends has to know whether it is up: the client drops
 * what is written in between.
 */
import { BrokerUnreachable, InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import { causeInWords } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { existsSync, readFileSync } from "node:fs"
import type { Settings } from "../NatsConfig.js"
import type { ConnectionState } from "../NatsConnection.js"
import { type Denied, deniedInWords } from "../NatsErrors.js"
import * as Client from "./Client.js"
import { Closing } from "./Closing.js"
import { Replies } from "./Replies.js"
import { Wire } from "./Wire.js"

/** Synchronous, and never throwing: they are called between two messages. */
export interface Listener {
  readonly onDisconnect?: () => void
  readonly onReconnect?: () => void
  /** The client is closed for good. */
  readonly onClosed?: () => void
  /** The user of the connection may not do something that it has just tried. */
  readonly onDenied?: (denied: Denied) => void
}

/** In milliseconds. */
const pulseInterval = 500

/** So many errors that the server reports are told in so many milliseconds: one missing right is reported for each message. */
const mostErrors = 10
const errorsWithin = 10_000

export interface Connection {
  readonly client: Client.Client
  readonly wire: Wire
  readonly replies: Replies
  /** The prefix of this connection's own inbox subjects. */
  readonly inbox: string
  readonly isUp: () => boolean
  readonly state: () => ConnectionState
  /** Fails when the client has given up for good, although nobody closed the transport. */
  readonly lost: Effect.Effect<never, BrokerUnreachable>
  readonly maxPayload: () => number
  readonly closing: Closing
  /** Called twice a second, one after the other: a timer for each of those that look at something from time to time would be dear. */
  readonly pulse: Set<() => void>
  readonly listeners: Set<Listener>
}

export const make = (
  settings: Settings
): Effect.Effect<Connection, BrokerUnreachable | InvalidConfiguration, Scope.Scope> =>
  Effect.gen(function*() {
    const closing = new Closing(settings.closeTimeout)
    const given = settings.options.connection
    const client = yield* given === undefined
      ? opened(settings, closing)
      : borrowed(settings, closing, Client.ofGiven(given))
    const pulse = new Set<() => void>()
    yield* Effect.acquireRelease(
      // After what the socket has: where the process stood still, that is more than nothing.
      Effect.sync(() => setInterval(() => setImmediate(() => pulse.forEach((look) => look())), pulseInterval)),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
    const inbox = Client.createInbox(settings.inboxPrefix)
    const listeners = new Set<Listener>()
    const state = { up: true }
    let told: ConnectionState = { _tag: "Connected", server: client.server() }
    const tell = yield* reporter(settings.options.onConnectionState)
    const observed = yield* Observer.connection("nats")
    observed("Connected")
    const become = (_tag: ConnectionState["_tag"]) => {
      const server = _tag === "Connected" ? client.server() : told.server
      if (told._tag === _tag && told.server === server) return
      told = { _tag, server }
      observed(_tag === "LameDuck" ? "Degraded" : _tag === "Closed" ? "Disconnected" : _tag)
      tell(told)
    }
    const events = yield* Queue.sliding<{ readonly event: Client.Event; readonly isLast: boolean }>(64)
    const counted = countWithin(errorsWithin)
    const unwatch = client.watch((event) => {
      if (event._tag === "Disconnected") {
        state.up = false
        become("Disconnected")
        for (const listener of [...listeners]) listener.onDisconnect?.()
      } else if (event._tag === "Reconnected") {
        state.up = true
        become("Connected")
        for (const listener of [...listeners]) listener.onReconnect?.()
      } else if (event._tag === "LameDuck") become("LameDuck")
      else if (event._tag === "Failed" && event.denied !== undefined) {
        const { denied } = event
        for (const listener of [...listeners]) listener.onDenied?.(denied)
      }
      const number = event._tag === "Failed" ? counted() : 0
      if (number <= mostErrors) Queue.unsafeOffer(events, { event, isLast: number === mostErrors })
    })
    yield* Effect.addFinalizer(() => Effect.sync(unwatch))
    yield* Queue.take(events).pipe(Effect.flatMap(log), Effect.forever, Effect.forkScoped)
    const replies = yield* Effect.acquireRelease(
      Effect.sync(() => new Replies(client, `${inbox}.r`)),
      (replies) => Effect.sync(() => replies.close())
    )
    const lost = yield* Deferred.make<never, BrokerUnreachable>()
    yield* Effect.promise(() => client.closed()).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          become("Closed")
          replies.end()
          for (const listener of [...listeners]) listener.onClosed?.()
        })
      ),
      Effect.tap((cause) =>
        Effect.logError("The connection to NATS is closed for good").pipe(
          cause instanceof Error ? Effect.annotateLogs("reason", cause.message) : (line) => line
        )
      ),
      Effect.flatMap((cause) =>
        Deferred.fail(
          lost,
          new BrokerUnreachable({
            transport: "nats",
            addresses: settings.servers,
            cause: cause ?? "the connection was closed for good"
          })
        )
      ),
      Effect.forkScoped
    )
    return {
      client,
      wire: new Wire(client),
      replies,
      inbox,
      isUp: () => state.up && !client.isClosed(),
      state: () => told,
      lost: Deferred.await(lost),
      closing,
      pulse,
      maxPayload: () => client.info()?.maxPayload ?? 1_048_576,
      listeners
    }
  })

const opened = (settings: Settings, closing: Closing) =>
  Effect.flatMap(toClientOptions(settings), (options) =>
    Effect.acquireRelease(
      connectOnce(settings, options).pipe(
        Effect.retry({
          times: settings.connectAttempts - 1,
          schedule: Schedule.exponential("200 millis").pipe(Schedule.jittered)
        }),
        Effect.interruptible
      ),
      (client) => close(client, closing)
    ))

/** The application's own connection, which has to be up now, and stays open. */
const borrowed = (settings: Settings, closing: Closing, client: Client.Client) => {
  const unreachable = (cause: unknown) =>
    new BrokerUnreachable({ transport: "nats", addresses: settings.servers, cause })
  const answered = Effect.tryPromise({ try: () => client.flush(), catch: unreachable })
  return Effect.acquireRelease(
    client.isClosed()
      ? unreachable("the given connection is closed")
      : Effect.interruptible(answered).pipe(
        Effect.timeoutFail({
          duration: settings.connectTimeout,
          onTimeout: () => unreachable(`the given connection had no answer within ${settings.connectTimeout} ms`)
        }),
        Effect.as(client)
      ),
    () => client.isClosed() ? Effect.void : Effect.asVoid(closing.within(Effect.ignoreLogged(answered)))
  )
}

/** States are told one after the other, and the code that finds a state out does not wait for that. If many wait, only the last ones are told. */
const reporter = (told: Settings["options"]["onConnectionState"]) =>
  Effect.gen(function*() {
    if (told === undefined) return (_: ConnectionState): void => undefined
    const states = yield* Queue.sliding<ConnectionState>(16)
    yield* Queue.take(states).pipe(
      Effect.flatMap(told),
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.failCause(cause)
          : Effect.logWarning(`onConnectionState failed: ${causeInWords(cause)}`)
      ),
      Effect.forever,
      Effect.forkScoped
    )
    return (state: ConnectionState): void => void states.unsafeOffer(state)
  })

/** Each address has at least so long, in milliseconds, also where there are many of them. */
const leastForAddress = 1_000

/** One attempt gets to each address, however many before it answer nothing. */
const timeoutOf = ({ connectTimeout, servers }: Settings): { readonly each: number; readonly all: number } => {
  const each = Math.max(Math.ceil(connectTimeout / servers.length), Math.min(connectTimeout, leastForAddress))
  // A moment more than the last address needs.
  return { each, all: servers.length === 1 ? connectTimeout : each * servers.length + 100 }
}

const connectOnce = (
  settings: Settings,
  options: Client.ConnectOptions
): Effect.Effect<Client.Client, BrokerUnreachable> => {
  const unreachable = (cause: unknown) =>
    new BrokerUnreachable({ transport: "nats", addresses: settings.servers, cause })
  return Effect.async<Client.Client, BrokerUnreachable>((resume) => {
    let abandoned = false
    Client.connect(options).then(
      (client) => {
        // The connection came too late: nobody waits for it any more.
        if (abandoned) void client.close()
        else resume(Effect.succeed(client))
      },
      (cause) => resume(Effect.fail(unreachable(cause)))
    )
    return Effect.sync(() => {
      abandoned = true
    })
  }).pipe(
    // The client applies its timeout to each address in turn.
    Effect.timeoutFail({
      duration: timeoutOf(settings).all,
      onTimeout: () => unreachable(`no answer within ${timeoutOf(settings).all} ms`)
    })
  )
}

/** Closing waits for what was written, but not for a server that is away. */
const close = (client: Client.Client, closing: Closing): Effect.Effect<void> => {
  const drained = Effect.promise(() => client.isClosed() ? Promise.resolve(true) : client.drain())
  return closing.within(drained).pipe(
    Effect.flatMap((done) =>
      Option.contains(done, true) ? Effect.void : closing.within(Effect.promise(() => client.close()))
    ),
    Effect.asVoid
  )
}

/** Which one it is since the beginning of a time, which begins anew when it is over. */
const countWithin = (time: number) => {
  let [began, count] = [-Infinity, 0]
  return (): number => {
    const now = performance.now()
    if (now - began >= time) [began, count] = [now, 0]
    return ++count
  }
}

const log = ({ event, isLast }: { readonly event: Client.Event; readonly isLast: boolean }): Effect.Effect<void> => {
  switch (event._tag) {
    case "Disconnected":
      return Effect.annotateLogs(Effect.logWarning("Disconnected from NATS; reconnecting"), "server", event.server)
    case "Reconnected":
      return Effect.annotateLogs(Effect.logInfo("Reconnected to NATS"), "server", event.server)
    case "LameDuck":
      return Effect.logWarning("The NATS server is about to shut down (lame duck mode)").pipe(
        Effect.annotateLogs("server", event.server)
      )
    case "Failed":
      return Effect.logWarning("NATS reports an error").pipe(Effect.annotateLogs({
        code: event.code,
        ...(isLast ? { more: `within ${errorsWithin} ms are not told` } : {}),
        ...(event.denied === undefined ? {} : { denied: deniedInWords(event.denied) })
      }))
  }
}

const toClientOptions = (settings: Settings): Effect.Effect<Client.ConnectOptions, InvalidConfiguration> =>
  Effect.gen(function*() {
    const { options } = settings
    const authenticator = yield* toAuthenticator(settings)
    const tls = yield* toTls(settings)
    return {
      servers: [...settings.servers],
      name: settings.name,
      timeout: timeoutOf(settings).each,
      inboxPrefix: settings.inboxPrefix,
      pingInterval: settings.pingInterval,
      maxPingOut: 2,
      reconnect: true,
      maxReconnectAttempts: -1,
      reconnectDelayHandler: () => settings.reconnectWait * (1 + Math.random()),
      // An authorization that fails after a reconnect can be repaired on the server.
      ignoreAuthErrorAbort: true,
      noAsyncTraces: true,
      ...(options.user === undefined ? {} : { user: options.user }),
      ...(options.password === undefined ? {} : { pass: Redacted.value(options.password) }),
      ...(options.token === undefined ? {} : { token: Redacted.value(options.token) }),
      ...(authenticator === undefined ? {} : { authenticator }),
      ...(tls === undefined ? {} : { tls })
    }
  })

const toAuthenticator = (
  settings: Settings
): Effect.Effect<Client.Authenticator | undefined, InvalidConfiguration> => {
  const { credentials, credentialsFile, nkeySeed } = settings.options
  const invalid = (issue: string) => (cause: unknown) => new InvalidConfiguration({ issues: [issue], cause })
  // A nonce is given to find out now whether the secret can sign.
  const tried = (setting: string, make: () => Client.Authenticator) =>
    Effect.try({
      try: () => {
        const authenticator = make()
        authenticator("nonce")
        return authenticator
      },
      catch: invalid(`nats.${setting}: is not usable`)
    })
  if (credentials !== undefined) {
    return tried("credentials", () => Client.credsAuthenticator(Buffer.from(Redacted.value(credentials))))
  }
  if (credentialsFile !== undefined) {
    return tried("credentialsFile", () => Client.credsAuthenticator(rereading(credentialsFile)))
  }
  if (nkeySeed !== undefined) {
    return tried("nkeySeed", () => Client.nkeyAuthenticator(Buffer.from(Redacted.value(nkeySeed))))
  }
  return Effect.succeed(undefined)
}

/** An error within an authenticator would close the connection for good, so a file that is away stays as it was. */
const rereading = (path: string): () => Uint8Array => {
  let last = readFileSync(path)
  return () => {
    try {
      last = readFileSync(path)
    } catch {
      // It is read again at the next reconnect.
    }
    return last
  }
}

const toTls = (settings: Settings): Effect.Effect<Client.TlsOptions | undefined, InvalidConfiguration> =>
  Effect.suspend(() => {
    const { tls, tlsCaFile, tlsCertFile, tlsHandshakeFirst, tlsKeyFile } = settings.options
    const files = { tlsCaFile, tlsCertFile, tlsKeyFile }
    const issues = Object.entries(files).flatMap(([key, file]) =>
      file === undefined || existsSync(file) ? [] : [`nats.${key}: there is no file "${file}"`]
    )
    if (issues.length > 0) return Effect.fail(new InvalidConfiguration({ issues }))
    const given = Object.values(files).some((file) => file !== undefined) || tlsHandshakeFirst === true
    if (tls === false && given) {
      return Effect.fail(new InvalidConfiguration({ issues: ["nats.tls is off, but other TLS settings are given"] }))
    }
    if (tls !== true && !given) return Effect.succeed(undefined)
    return Effect.succeed({
      ...(tlsCaFile === undefined ? {} : { caFile: tlsCaFile }),
      ...(tlsCertFile === undefined ? {} : { certFile: tlsCertFile }),
      ...(tlsKeyFile === undefined ? {} : { keyFile: tlsKeyFile }),
      ...(tlsHandshakeFirst === true ? { handshakeFirst: true } : {})
    })
  })
