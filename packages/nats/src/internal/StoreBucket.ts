/** The bucket behind a store: its settings, and what has to be so with one that is there. */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import type { Settings } from "../NatsConfig.js"
import { codes, deniedInWords, isRefused, isStorageFull, NatsRequestFailed } from "../NatsErrors.js"
import * as Api from "./Api.js"
import type { Connection } from "./Connection.js"
import * as StoreNames from "./StoreNames.js"
import { toPlacement } from "./StreamSettings.js"

/** What a store is on the server. */
export interface StoreBucket {
  readonly bucket: string
  readonly stream: string
  /** Begins the subjects that the stream has. */
  readonly root: string
  /** Begins the subjects that are written to: elsewhere only the domain's own lead into it. */
  readonly writes: string
}

export const of = (settings: Settings, group: string, topic: string, name: string): StoreBucket => {
  const bucket = StoreNames.toBucket(group, topic, name)
  const root = `$KV.${bucket}.`
  const writes = settings.apiPrefix === "$JS.API" ? root : `${settings.apiPrefix}.${root}`
  return { bucket, stream: StoreNames.streamOf(bucket), root, writes }
}

export const toConfig = (
  { root, stream }: StoreBucket,
  settings: Settings,
  replicas: number,
  description: string
): Api.StreamConfig => {
  const placement = toPlacement(settings.options)
  return {
    name: stream,
    subjects: [`${root}>`],
    description,
    storage: "file",
    num_replicas: replicas,
    retention: "limits",
    discard: "new",
    max_msgs_per_subject: 1,
    max_msgs: -1,
    max_bytes: -1,
    max_age: 0,
    // A removal is a message that is purged later on: nothing else is ever taken out.
    deny_delete: true,
    deny_purge: false,
    allow_rollup_hdrs: true,
    allow_direct: true,
    ...(placement === undefined ? {} : { placement })
  }
}

/** Why the bucket, as it was found, would lose what the store has confirmed, or could not be written; with what to do about it. */
export const problems = ({ root }: StoreBucket, config: Api.StreamConfig): ReadonlyArray<string> => {
  const found: Array<string> = []
  const { discard, max_age = 0, max_bytes = -1, max_msgs = -1, max_msgs_per_subject = -1, retention = "limits" } =
    config
  const { mirror, subject_transform, subjects } = config
  const anew = "it can't be changed: move the bucket away, or delete it, which loses what is in it"
  if (max_age > 0) found.push(`max_age ${max_age / 1e9} s (a TTL): entries vanish. Set it to 0`)
  if (discard !== "new") {
    for (const [name, limit] of Object.entries({ max_bytes, max_msgs })) {
      if (limit > 0) {
        found.push(`${name} ${limit} with discard old: entries vanish. Remove the limit, or set discard to new`)
      }
    }
  }
  if (retention !== "limits") found.push(`retention ${retention}: entries vanish when they were read; ${anew}`)
  if (max_msgs_per_subject !== 1) {
    found.push(`max_msgs_per_subject ${max_msgs_per_subject}: it has to be 1, or the store grows for ever. Set it to 1`)
  } else if (config.discard_new_per_subject === true) {
    found.push("discard_new_per_subject: a key can't be written again. Set it to false")
  }
  if (config.storage === "memory") found.push(`storage memory: a restart of its server empties it; ${anew}`)
  if (config.persist_mode === "async") {
    found.push(`persist_mode async: it confirms before it has written; ${anew}`)
  }
  if (config.no_ack === true) found.push("no_ack: it confirms nothing. Set it to false")
  if (config.deny_purge === true) found.push(`deny_purge: removed keys stay for ever; ${anew}`)
  if (config.sealed === true) found.push(`sealed: nothing can be written; ${anew}`)
  if (mirror !== undefined) found.push(`a mirror ("${mirror.name}"): it can't be written to; ${anew}`)
  if (subject_transform !== undefined) found.push("subject_transform: keys are stored under other names. Remove it")
  if (subjects?.includes(`${root}>`) !== true) {
    found.push(`the subjects ${JSON.stringify(subjects ?? [])}: they have to be ["${root}>"]. Set them`)
  }
  return found
}

/** Makes the bucket when it is missing, and refuses one that is no store. */
export const ensure = (
  api: Api.Api,
  at: StoreBucket,
  wanted: Api.StreamConfig,
  topic: string
): Effect.Effect<Api.StreamInfo, NatsRequestFailed | InvalidConfiguration> => {
  const isCode = (code: number) => (failure: NatsRequestFailed) => failure.error?.err_code === code
  const created = api.createStream(wanted).pipe(
    Effect.zipLeft(
      Effect.logInfo("Created the bucket of a store").pipe(Effect.annotateLogs({ bucket: at.bucket, topic }))
    ),
    Effect.catchIf(isCode(codes.streamNameInUse), () => api.streamInfo(at.stream)),
    Effect.catchIf(
      (failure) => failure.error !== undefined && isRefused(failure.error),
      (cause) => new InvalidConfiguration({ issues: [cause.message], topic, cause })
    )
  )
  return api.streamInfo(at.stream).pipe(
    Effect.catchIf(isCode(codes.streamNotFound), () => created),
    Effect.filterOrElse(
      ({ config }) => problems(at, config).length === 0,
      ({ config }) =>
        new InvalidConfiguration({
          issues: problems(at, config).map((problem) => `the bucket "${at.bucket}" of a store has ${problem}`),
          topic
        })
    ),
    Effect.tap(({ config: { num_replicas: replicas = 1 } }) => {
      const expected = wanted.num_replicas ?? 1
      return replicas >= expected ? Effect.void : Effect.logWarning(
        "The bucket of a store has fewer replicas than the topic's stream: without its servers nothing can be written to it"
      ).pipe(Effect.annotateLogs({ bucket: at.bucket, topic, replicas, expected }))
    })
  )
}

const encoder = new TextEncoder()

/** Whether the user may do what a store needs is tried out at once, and not found out by the first failure. Nothing is left behind. */
export const checkRights = (
  connection: Connection,
  settings: Settings,
  at: StoreBucket
): Effect.Effect<void, NatsRequestFailed> =>
  Api.request(connection, at.writes + StoreNames.probe, settings.requestTimeout, encoder.encode("probe")).pipe(
    // That there is no room at the moment says that the right is there.
    Effect.catchIf(isStorageFull, () => Effect.void),
    Effect.zipRight(
      purge(connection, settings, at, StoreNames.probe)
    )
  )

/** Removes what a subject has, or what it has up to a sequence. */
export const purge = (
  connection: Connection,
  settings: Settings,
  { root, stream }: StoreBucket,
  name: string,
  upTo?: number
): Effect.Effect<void, NatsRequestFailed> =>
  Effect.asVoid(
    Api.request(connection, `${settings.apiPrefix}.STREAM.PURGE.${stream}`, settings.requestTimeout, {
      filter: root + name,
      // All below a sequence.
      ...(upTo === undefined ? {} : { seq: upTo + 1 })
    })
  )

/** Where a right is missing: all that are needed. */
export const needs = (settings: Settings, at: StoreBucket, failure: NatsRequestFailed): string => {
  const { apiPrefix } = settings
  const api = ["STREAM.INFO", "STREAM.CREATE", "STREAM.PURGE", "STREAM.MSG.GET", "CONSUMER.CREATE"].map((endpoint) =>
    `${apiPrefix}.${endpoint}.${at.stream}`
  )
  const consumers = ["CONSUMER.DELETE", "CONSUMER.MSG.NEXT"].map((endpoint) =>
    `${apiPrefix}.${endpoint}.${at.stream}.*`
  )
  const subjects = [`${at.writes}>`, ...api, ...consumers].map((subject) => `"${subject}"`)
  const missing = failure.denied === undefined ? failure.message : deniedInWords(failure.denied)
  return `${missing}. A store needs the right to publish to ${subjects.join(", ")}`
}

/** The bucket is not there any more, or it is another one. It does not pass. */
export const gone = (at: StoreBucket, how: string): NatsRequestFailed =>
  new NatsRequestFailed({
    subject: at.stream,
    reason: "Api",
    error: {
      code: 410,
      err_code: 0,
      description: `the bucket "${at.bucket}" ${how}: what it had is lost. Subscribe again, with another one`
    }
  })
