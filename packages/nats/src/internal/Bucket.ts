/**
 * The key-value bucket of the leases, in the format of NATS's own clients: `nats kv ls` shows it. Each change names the
 * revision that it replaces, so of several that change a key at once one succeeds.
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import { codes, isStorageFull, type NatsRequestFailed } from "../NatsErrors.js"
import * as Api from "./Api.js"
import type { Connection } from "./Connection.js"
import { bucketProblems, bucketWarnings } from "./NatsPreflight.js"

/** Somebody else has changed the key. */
export class Conflict extends Data.TaggedError("Conflict")<{ readonly key: string }> {}

/** What is written to a key, as JSON. */
export interface Value {
  /** Who has the partition; nobody where it is missing. */
  readonly owner?: string | undefined
  /**
   * Of a partition that was given back: up to which sequence messages were offered; not known where it is missing. Of its limit: up to
   * which they may be.
   */
  readonly offered?: number | undefined
  /** The instance takes no partitions any more. */
  readonly leaving?: boolean | undefined
  /** The instances that this one is about to take for dead, with the revisions of their keys. */
  readonly doubts?: Readonly<Record<string, number>> | undefined
  /** How many partitions a topic has, and by which hash. */
  readonly partitions?: number | undefined
  readonly partitioner?: string | undefined
  /** When the stream was made of which this is said, and the consumer. */
  readonly stream?: string | undefined
  readonly consumer?: string | undefined
  /** Which sequences are settled: the beginning of each range, and its end, which is not in it; and when the latest was stored. */
  readonly settled?: ReadonlyArray<number> | undefined
  readonly latest?: number | undefined
  /** For people. */
  readonly host?: string | undefined
  readonly pid?: number | undefined
}

export interface Entry {
  /** Undefined where the key was deleted. */
  readonly value: Value | undefined
  /** The sequence of the bucket's stream: rises with each change of any key. */
  readonly revision: number
}

export interface Change extends Entry {
  readonly key: string
}

export interface Keys {
  readonly keys: ReadonlyArray<string>
  /** When the bucket was made: another time means another bucket, which has forgotten everything. */
  readonly created: string
  /** The highest revision that any key has had; lower than one that is known where the server has lost what it had written. */
  readonly last: number
  /** Why it can't hold leases, if somebody has changed it. */
  readonly issues: ReadonlyArray<string>
}

export interface Bucket {
  /** Makes the bucket when it is missing; one that can't hold leases is refused, with the reasons. */
  readonly ensure: Effect.Effect<void, NatsRequestFailed | InvalidConfiguration>
  /** As the stream's leader has it. */
  readonly get: (key: string) => Effect.Effect<Entry | undefined, NatsRequestFailed>
  /**
   * Writes a key whose revision is the given one, 0 where there is none, and answers the new revision. Where that comes only after it
   * has failed with `Timeout`, `onLate` is told.
   */
  readonly put: (
    key: string,
    value: Value,
    revision: number,
    onLate?: (revision: number) => void
  ) => Effect.Effect<number, NatsRequestFailed | Conflict>
  /** Deletes a key of this revision, and leaves nothing behind. */
  readonly remove: (key: string, revision: number) => Effect.Effect<void, NatsRequestFailed | Conflict>
  /** Removes a key if it has this revision, or a lower one, and answers whether it had. It needs no room, but nobody hears of it. */
  readonly withdraw: (key: string, revision: number) => Effect.Effect<boolean, NatsRequestFailed>
  /** Removes what is left of a key, its mark of deletion included. */
  readonly purge: (key: string) => Effect.Effect<void, NatsRequestFailed>
  readonly keys: (prefix: string) => Effect.Effect<Keys, NatsRequestFailed>
  /**
   * The keys below the prefix that have a higher revision than this one, as the stream's leader has them: a request for each, one after the
   * other, and one more. Undefined where there are more than `limit`.
   */
  readonly changes: (
    prefix: string,
    after: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Change> | undefined, NatsRequestFailed>
  /** Tells of changes of keys below the prefix, soon before or after they are written. It is a hint: it can miss some. */
  readonly hints: (prefix: string, onKey: (key: string) => void) => Effect.Effect<void, never, Scope.Scope>
}

/** Where JetStream of one's own account and domain is asked. */
const ownApi = "$JS.API"

const encoder = new TextEncoder()

const wrongSequence = new Set([10071, 10164])

/** `replicas` is how many a bucket that is made has: it decides over reading, so it is no less than the stream has. */
export const make = (connection: Connection, settings: Settings, timeout: number, replicas: number): Bucket => {
  const stream = `KV_${settings.leaseBucket}`
  const root = `$KV.${settings.leaseBucket}.`
  // Only the domain's own subjects lead into it: the bare ones end at a leaf node that has another domain. So do other accounts' imports.
  const writes = settings.apiPrefix === ownApi ? root : `${settings.apiPrefix}.${root}`
  const api = <A>(endpoint: string, body?: object): Effect.Effect<A, NatsRequestFailed> =>
    Api.request(connection, `${settings.apiPrefix}.${endpoint}.${stream}`, timeout, body) as Effect.Effect<
      A,
      NatsRequestFailed
    >
  const write = (
    key: string,
    value: object | undefined,
    revision: number,
    onLate?: (revision: number) => void
  ) => {
    const mark = value === undefined ? "KV-Operation: DEL\r\n" : ""
    const block = `NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: ${revision}\r\n${mark}\r\n`
    const onAnswer = onLate === undefined ? undefined : ({ seq }: Api.Answer) => {
      if (typeof seq === "number") onLate(seq)
    }
    return Api.request(connection, writes + key, timeout, value, encoder.encode(block), onAnswer).pipe(
      Effect.catchIf(
        (failure) => failure.error !== undefined && wrongSequence.has(failure.error.err_code),
        () => new Conflict({ key })
      ),
      Effect.map((answer) => (answer as { readonly seq: number }).seq)
    )
  }
  const purge = (key: string) => Effect.asVoid(api("STREAM.PURGE", { filter: root + key }))
  const withdraw = (key: string, revision: number) =>
    // All below a sequence.
    api<{ readonly purged: number }>("STREAM.PURGE", { filter: root + key, seq: revision + 1 }).pipe(
      Effect.map(({ purged }) => purged > 0)
    )
  const toEntry = ({ data = "", seq }: Message): Entry => ({
    value: Api.parse(Buffer.from(data, "base64")) as Value | undefined,
    revision: seq
  })
  const next = (filter: string, from: number) =>
    api<{ readonly message: Message }>("STREAM.MSG.GET", { seq: from, next_by_subj: filter }).pipe(
      Effect.map(({ message }): Message | undefined => message),
      Effect.catchIf((failure) => failure.error?.err_code === codes.noMessage, () => Effect.succeed(undefined))
    )
  const checked = api<Info>("STREAM.INFO").pipe(
    Effect.tap(({ config }) => {
      const problems = bucketProblems(config)
      if (problems.length > 0) {
        return new InvalidConfiguration({
          issues: problems.map((problem) => `bucket "${settings.leaseBucket}" has ${problem}`)
        })
      }
      const warnings = settings.preflight === "off" ? [] : bucketWarnings(config, replicas)
      if (warnings.length === 0) return Effect.void
      return Effect.logWarning("The settings of the leases' bucket are weaker than the stream's").pipe(
        Effect.annotateLogs({ bucket: settings.leaseBucket, reasons: warnings.join("; ") })
      )
    })
  )
  return {
    ensure: checked.pipe(
      Effect.catchIf(
        (failure) => failure._tag === "NatsRequestFailed" && failure.error?.err_code === codes.streamNotFound,
        () =>
          Effect.zipRight(
            Effect.logInfo("Creating the bucket of the leases").pipe(
              Effect.annotateLogs("bucket", settings.leaseBucket)
            ),
            api<Info>("STREAM.CREATE", toConfig(stream, `${root}>`, replicas))
          ).pipe(
            // Somebody has made it in the meantime, with another number of replicas.
            Effect.catchIf((failure) => failure.error?.err_code === codes.streamNameInUse, () => checked)
          )
      ),
      Effect.asVoid
    ),
    get: (key) =>
      api<{ readonly message: Message }>("STREAM.MSG.GET", { last_by_subj: root + key }).pipe(
        Effect.map(({ message }) => toEntry(message)),
        Effect.catchIf((failure) => failure.error?.err_code === codes.noMessage, () => Effect.succeed(undefined))
      ),
    put: write,
    remove: (key, revision) =>
      Effect.zipRight(write(key, undefined, revision), purge(key)).pipe(
        Effect.catchIf(
          (failure) => failure._tag === "NatsRequestFailed" && isStorageFull(failure),
          () => Effect.flatMap(withdraw(key, revision), (isRemoved) => isRemoved ? Effect.void : new Conflict({ key }))
        )
      ),
    withdraw,
    purge,
    keys: (prefix) =>
      api<Info>("STREAM.INFO", { subjects_filter: `${root}${prefix}.>` }).pipe(
        Effect.map(({ config, created, state }) => ({
          issues: bucketProblems(config),
          keys: Object.keys(state.subjects ?? {}).map((subject) => subject.slice(root.length)),
          created,
          last: state.last_seq
        }))
      ),
    changes: (prefix, after, limit) =>
      Effect.gen(function*() {
        const changes: Array<Change> = []
        let message = yield* next(`${root}${prefix}.>`, after + 1)
        while (message !== undefined) {
          if (changes.length === limit) return undefined
          changes.push({ ...toEntry(message), key: message.subject.slice(root.length) })
          message = yield* next(`${root}${prefix}.>`, message.seq + 1)
        }
        return changes
      }),
    hints: (prefix, onKey) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() =>
          connection.client.subscribe(`${root}${prefix}.>`, (refused, message) => {
            if (refused === undefined) onKey(message.subject.slice(root.length))
          })
        ),
        (subscription) => Effect.sync(() => subscription.unsubscribe())
      ))
  }
}

interface Message {
  readonly subject: string
  readonly seq: number
  readonly data?: string
}

interface Info {
  readonly created: string
  readonly config: Api.StreamConfig
  readonly state: { readonly last_seq: number; readonly subjects?: Readonly<Record<string, number>> }
}

/** As NATS's own clients make a bucket without history. */
const toConfig = (name: string, subject: string, replicas: number) => ({
  name,
  subjects: [subject],
  // All groups share it, also those whose streams are in memory: an empty one would make everybody's partitions free.
  storage: "file",
  num_replicas: replicas,
  retention: "limits",
  discard: "new",
  max_msgs_per_subject: 1,
  max_msgs: -1,
  max_bytes: -1,
  max_age: 0,
  // The window of duplicates is the server's default, or its limit where that is lower.
  allow_rollup_hdrs: true,
  deny_delete: true,
  allow_direct: true
})
