/**
 * The requests of JetStream's API that are needed here.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Settings } from "../NatsConfig.js"
import { type ApiError, codes, type Denied, meaningOf, NatsRequestFailed } from "../NatsErrors.js"
import type { Message } from "./Client.js"
import type { Connection } from "./Connection.js"
import { isNoResponders } from "./Replies.js"

export interface StreamConfig {
  readonly name: string
  readonly subjects?: ReadonlyArray<string> | undefined
  readonly storage?: string | undefined
  readonly num_replicas?: number | undefined
  readonly max_age?: number | undefined
  readonly max_bytes?: number | undefined
  readonly max_msgs?: number | undefined
  readonly max_msgs_per_subject?: number | undefined
  /** With `discard` new: refuse a message beyond `max_msgs_per_subject`, instead of dropping the oldest of its subject. */
  readonly discard_new_per_subject?: boolean | undefined
  readonly duplicate_window?: number | undefined
  readonly retention?: string | undefined
  readonly discard?: string | undefined
  readonly description?: string | undefined
  /** From 2.10 on. */
  readonly compression?: string | undefined
  readonly max_msg_size?: number | undefined
  readonly no_ack?: boolean | undefined
  readonly deny_purge?: boolean | undefined
  readonly deny_delete?: boolean | undefined
  readonly sealed?: boolean | undefined
  readonly allow_rollup_hdrs?: boolean | undefined
  readonly allow_direct?: boolean | undefined
  readonly mirror?: { readonly name: string } | undefined
  /** From 2.10 on: under which subject it stores what it gets. */
  readonly subject_transform?: { readonly src?: string | undefined; readonly dest: string } | undefined
  /** On which servers of a cluster it is. */
  readonly placement?:
    | { readonly cluster?: string | undefined; readonly tags?: ReadonlyArray<string> | undefined }
    | undefined
  /** From 2.10 on. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /** From 2.11 on: a message can say for how long it is kept. */
  readonly allow_msg_ttl?: boolean | undefined
  /** From 2.12 on: `async` acknowledges before it has written. */
  readonly persist_mode?: string | undefined
}

export interface StreamInfo {
  readonly config: StreamConfig
  readonly created: string
  readonly state: { readonly first_seq: number; readonly last_seq: number; readonly last_ts?: string | undefined }
  /** Undefined where the server is alone. */
  readonly cluster?: { readonly leader?: string | undefined } | undefined
}

export interface ConsumerConfig {
  readonly durable_name?: string | undefined
  readonly name?: string | undefined
  readonly deliver_policy?: string | undefined
  readonly opt_start_seq?: number | undefined
  readonly opt_start_time?: string | undefined
  readonly deliver_subject?: string | undefined
  readonly ack_policy?: string | undefined
  readonly ack_wait?: number | undefined
  readonly max_deliver?: number | undefined
  readonly max_ack_pending?: number | undefined
  readonly filter_subject?: string | undefined
  readonly filter_subjects?: ReadonlyArray<string> | undefined
  readonly headers_only?: boolean | undefined
  /** Limits of pull requests. */
  readonly max_batch?: number | undefined
  readonly max_expires?: number | undefined
  readonly max_bytes?: number | undefined
  readonly mem_storage?: boolean | undefined
  /** 0: as many as the stream has. */
  readonly num_replicas?: number | undefined
  /** From 2.10 on. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /** From 2.11 on. */
  readonly priority_policy?: string | undefined
  readonly priority_groups?: ReadonlyArray<string> | undefined
  readonly priority_timeout?: number | undefined
  readonly pause_until?: string | undefined
  readonly replay_policy?: string | undefined
  readonly inactive_threshold?: number | undefined
  readonly backoff?: ReadonlyArray<number> | undefined
}

export interface ConsumerInfo {
  readonly stream_name: string
  readonly name: string
  readonly created?: string | undefined
  readonly config: ConsumerConfig
  readonly delivered: {
    readonly consumer_seq: number
    readonly stream_seq: number
    readonly last_active?: string | undefined
  }
  readonly ack_floor: { readonly consumer_seq: number; readonly stream_seq: number }
  /** Whether somebody listens to what a push consumer sends. */
  readonly push_bound?: boolean | undefined
  /** From 2.10 on: the server's time. */
  readonly ts?: string | undefined
  readonly num_ack_pending: number
  readonly num_waiting: number
  readonly num_pending: number
  /** From 2.11 on. */
  readonly paused?: boolean | undefined
}

export interface AccountInfo {
  /** Bytes in use, and how many can be at most; -1 for no limit. */
  readonly memory?: number | undefined
  readonly storage?: number | undefined
  readonly limits?: { readonly max_memory?: number | undefined; readonly max_storage?: number | undefined } | undefined
}

export interface Api {
  readonly accountInfo: Effect.Effect<AccountInfo, NatsRequestFailed>
  readonly streamInfo: (name: string) => Effect.Effect<StreamInfo, NatsRequestFailed>
  readonly createStream: (config: StreamConfig) => Effect.Effect<StreamInfo, NatsRequestFailed>
  readonly updateStream: (config: StreamConfig) => Effect.Effect<StreamInfo, NatsRequestFailed>
  /** The streams that hold the subject, or a part of what a pattern stands for. */
  readonly streamNamesOf: (subject: string) => Effect.Effect<ReadonlyArray<string>, NatsRequestFailed>
  /** The sequence of the first message from this one on that the filter matches, as the stream's leader has it. */
  readonly nextSequence: (
    stream: string,
    from: number,
    filter: string
  ) => Effect.Effect<number | undefined, NatsRequestFailed>
  readonly consumerInfo: (stream: string, name: string) => Effect.Effect<ConsumerInfo, NatsRequestFailed>
  /** Makes a durable consumer, or changes it. */
  readonly putConsumer: (stream: string, config: ConsumerConfig) => Effect.Effect<ConsumerInfo, NatsRequestFailed>
  /** Makes a consumer that ends when it is deleted, or not used. The server names it. */
  readonly createEphemeral: (stream: string, config: ConsumerConfig) => Effect.Effect<ConsumerInfo, NatsRequestFailed>
  readonly deleteConsumer: (stream: string, name: string) => Effect.Effect<unknown, NatsRequestFailed>
  /** Whether the server that we are connected to is of this version or a later one. */
  readonly isAtLeast: (major: number, minor: number) => boolean
}

export const make = (connection: Connection, settings: Settings): Api => {
  const ask = <A>(endpoint: string, body?: object): Effect.Effect<A, NatsRequestFailed> =>
    request(connection, `${settings.apiPrefix}.${endpoint}`, settings.requestTimeout, body) as Effect.Effect<
      A,
      NatsRequestFailed
    >
  return {
    accountInfo: ask("INFO"),
    streamInfo: (name) => ask(`STREAM.INFO.${name}`),
    createStream: (config) => ask(`STREAM.CREATE.${config.name}`, config),
    updateStream: (config) => ask(`STREAM.UPDATE.${config.name}`, config),
    streamNamesOf: (subject) =>
      ask<{ readonly streams?: ReadonlyArray<string> | null }>("STREAM.NAMES", { subject }).pipe(
        Effect.map(({ streams }) => streams ?? [])
      ),
    nextSequence: (stream, from, filter) =>
      ask<{ readonly message: { readonly seq: number } }>(`STREAM.MSG.GET.${stream}`, {
        seq: from,
        next_by_subj: filter
      }).pipe(
        Effect.map(({ message }) => message.seq),
        Effect.catchIf(
          (failure) => failure.error?.err_code === codes.noMessage,
          () => Effect.succeed(undefined)
        )
      ),
    consumerInfo: (stream, name) => ask(`CONSUMER.INFO.${stream}.${name}`),
    putConsumer: (stream, config) =>
      ask(
        config.filter_subject === undefined
          ? `CONSUMER.CREATE.${stream}.${config.durable_name}`
          : `CONSUMER.CREATE.${stream}.${config.durable_name}.${config.filter_subject}`,
        { stream_name: stream, config }
      ),
    createEphemeral: (stream, config) => ask(`CONSUMER.CREATE.${stream}`, { stream_name: stream, config }),
    deleteConsumer: (stream, name) => ask(`CONSUMER.DELETE.${stream}.${name}`),
    isAtLeast: (major, minor) => isAtLeast(connection, major, minor)
  }
}

export const isAtLeast = ({ client }: Connection, major: number, minor: number): boolean => {
  const [actualMajor = 0, actualMinor = 0] = (client.info()?.version ?? "").split(".").map(Number)
  return actualMajor > major || actualMajor === major && actualMinor >= minor
}

const encoder = new TextEncoder()
const nothing = new Uint8Array(0)

/** How many times as long as a request is waited for an answer that comes late can still be heard of. */
const late = 8

/**
 * Unlike the client's own requests this one fails at once when the connection is gone. An answer that comes after the request has failed
 * for its time goes to `onLate`. A body is sent as JSON, or as the bytes that it is.
 */
export const request = (
  connection: Connection,
  subject: string,
  timeout: number,
  body: object | undefined | Uint8Array,
  headers?: Uint8Array,
  onLate?: (answer: Answer) => void
): Effect.Effect<unknown, NatsRequestFailed> =>
  Effect.async<Message, NatsRequestFailed>((resume) => {
    const failed = (reason: "Timeout" | "NoResponders" | "Disconnected" | "Closed", cause?: unknown) =>
      resume(Effect.fail(new NatsRequestFailed({ subject, reason, cause })))
    const disconnected = (cause?: unknown) => failed(connection.client.isClosed() ? "Closed" : "Disconnected", cause)
    if (!connection.isUp()) return disconnected()
    const listener = {
      onDisconnect: () => {
        forget()
        disconnected()
      },
      onDenied: (denied: Denied) => {
        if (denied.operation !== "publish" || denied.subject !== subject) return
        forget()
        resume(Effect.fail(new NatsRequestFailed({ subject, reason: "Denied", denied })))
      }
    }
    let lateTimer: NodeJS.Timeout | undefined
    const token = connection.replies.expect({
      onReply: (message) => {
        forget()
        if (lateTimer !== undefined) {
          clearTimeout(lateTimer)
          const answer = message === undefined ? undefined : parse(message.data)
          if (answer !== undefined) onLate?.(answer)
          return
        }
        if (message === undefined) {
          const { denied } = connection.replies
          if (denied === undefined) disconnected()
          else resume(Effect.fail(new NatsRequestFailed({ subject, reason: "Denied", denied })))
        } else if (isNoResponders(message)) failed("NoResponders")
        else resume(Effect.succeed(message))
      }
    })
    let last: NodeJS.Immediate | undefined
    const timer = setTimeout(() => {
      // After what the socket has: where the process stood still, the answer may be there.
      last = setImmediate(() => {
        if (onLate === undefined) forget()
        else {
          connection.listeners.delete(listener)
          lateTimer = setTimeout(() => connection.replies.forget(token), timeout * (late - 1)).unref()
        }
        failed("Timeout")
      })
    }, timeout)
    const forget = () => {
      clearTimeout(timer)
      clearImmediate(last)
      connection.listeners.delete(listener)
      connection.replies.forget(token)
    }
    connection.listeners.add(listener)
    try {
      const bytes = body === undefined
        ? nothing
        : body instanceof Uint8Array
        ? body
        : encoder.encode(JSON.stringify(body))
      connection.client.publish(subject, bytes, connection.replies.subject(token), headers)
    } catch (cause) {
      forget()
      disconnected(cause)
    }
    return Effect.sync(forget)
  }).pipe(
    Effect.flatMap((message) => {
      const answer = parse(message.data)
      if (answer === undefined) {
        return Effect.fail(
          new NatsRequestFailed({
            subject,
            reason: "Api",
            error: { code: 500, err_code: 0, description: "the answer is no JSON" }
          })
        )
      }
      return answer.error === undefined
        ? Effect.succeed(answer)
        : Effect.fail(new NatsRequestFailed({ subject, reason: "Api", error: answer.error }))
    })
  )

const decoder = new TextDecoder()

/** What JetStream answers. */
export interface Answer {
  readonly error?: ApiError
  readonly [key: string]: unknown
}

/** An answer of JetStream; undefined when the bytes are none. */
export const parse = (data: Uint8Array): Answer | undefined =>
  Either.getOrUndefined(Either.try(() => JSON.parse(decoder.decode(data))))

const ordinary = Buffer.from("{\"stream\":\"")
const lastMember = Buffer.from("\"seq\":")

/**
 * The sequence in an acknowledgement of the ordinary form, `{"stream":"…","seq":1}`; undefined for all others, which
 * say more, or something else.
 */
export const sequenceOf = (data: Uint8Array): number | undefined => {
  const end = data.length - 1
  if (end < ordinary.length || data[end] !== 125) return undefined
  let sequence = 0
  let factor = 1
  let at = end - 1
  for (; data[at]! >= 48 && data[at]! <= 57; at--) {
    sequence += (data[at]! - 48) * factor
    factor *= 10
  }
  if (at === end - 1 || !Number.isSafeInteger(sequence)) return undefined
  if (data[at] === 32) at--
  const start = at + 1 - lastMember.length
  for (let i = 0; i < lastMember.length; i++) if (data[start + i] !== lastMember[i]) return undefined
  for (let i = 0; i < ordinary.length; i++) if (data[i] !== ordinary[i]) return undefined
  return sequence
}

/** Whether the server, or the account, has no JetStream at all. */
export const isWithoutJetStream = (failure: NatsRequestFailed): boolean =>
  failure.reason === "NoResponders" || failure.error !== undefined && meaningOf(failure.error) === "NotEnabled"
