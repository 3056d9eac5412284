/**
 * How many partitions a topic has whose stream can't say it, because others made it or it holds other topics, too: a key of
 * the leases' bucket for each, written by the first process that uses the topic with partitions.
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import type { Settings } from "../NatsConfig.js"
import { codes, type NatsRequestFailed } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import type { Api, StreamInfo } from "./Api.js"
import type { Bucket, Entry } from "./Bucket.js"
import type { Placement } from "./Placement.js"

/** The beginning is no group's: groups have no `=` that no byte follows. */
const prefix = "=partitions"
const toKey = (topic: string) => `${prefix}.${Subject.toStream(topic).replaceAll("~", "=2E")}`
const fromKey = (key: string) => Subject.fromStream(key.slice(prefix.length + 1).replaceAll("=2E", "~"))

const concurrency = 16

const inWords = (partitions: number | undefined, partitioner: string | undefined) =>
  partitions === undefined ? "no partitions" : `partitions=${partitions} partitioner=${partitioner}`

/** Whether the topic is one of those: a topic without partitions in a stream of its own has nothing to be compared. */
export const isRecorded = (topic: string, { partitions }: Placement, { config }: StreamInfo): boolean =>
  !Subject.isPattern(topic) && !/^effect-eventbus: /.test(config.description ?? "") &&
  (partitions !== undefined || config.subjects?.some((subject) => subject !== topic) === true)

/** Compares a topic with what is recorded, and records one with partitions of which nothing is. */
export const check = (
  bucket: Bucket,
  settings: Settings,
  topic: string,
  { partitions }: Placement,
  stream: StreamInfo
): Effect.Effect<void, InvalidConfiguration | NatsRequestFailed> => {
  const key = toKey(topic)
  const { partitioner } = settings
  const used = inWords(partitions, partitioner)
  const found = bucket.get(key).pipe(
    Effect.catchIf(
      (failure) => failure.error?.err_code === codes.streamNotFound,
      () => partitions === undefined ? Effect.succeed(undefined) : Effect.as(bucket.ensure, undefined)
    )
  )
  const compare = (
    entry: Entry | undefined
  ): Effect.Effect<void, InvalidConfiguration | NatsRequestFailed> => {
    // That of a stream which is gone says nothing of this one.
    const value = entry?.value?.stream === stream.created ? entry.value : undefined
    if (value === undefined) {
      return partitions === undefined ? Effect.void : bucket.put(
        key,
        { partitions, partitioner, stream: stream.created },
        entry?.revision ?? 0
      ).pipe(
        Effect.catchTag("Conflict", () => Effect.flatMap(found, compare)),
        Effect.asVoid
      )
    }
    const recorded = inWords(value.partitions, value.partitioner)
    return recorded === used ? Effect.void : new InvalidConfiguration({
      issues: [
        `bucket "${settings.leaseBucket}" says "${recorded}" of topic "${topic}" (key "${key}"), but this is "${used}"`
      ],
      topic
    })
  }
  return Effect.flatMap(found, compare)
}

/**
 * The topics with partitions that a pattern names, and whose subjects, which have two more words, it does not: nobody would be
 * told that it misses their messages.
 */
export const missedBy = (
  api: Api,
  bucket: Bucket,
  pattern: string
): Effect.Effect<ReadonlyArray<string>, NatsRequestFailed> =>
  Effect.gen(function*() {
    const names = (topic: string | undefined): topic is string => topic !== undefined && Subject.covers(pattern, topic)
    if (pattern.endsWith(">")) return []
    const own = (yield* api.streamNamesOf(Subject.ofPartitions(pattern))).filter((name) => {
      const topic = Subject.fromStream(name)
      return topic !== undefined && !Subject.isPattern(topic) && names(topic)
    })
    const isPartitioned = (topic: string, stream: string) =>
      Effect.map(
        api.streamInfo(stream),
        ({ config }) => config.subjects?.includes(Subject.ofPartitions(topic)) === true
      )
    const ofOwn = yield* Effect.filter(
      own.map((stream) => ({ stream, topic: Subject.fromStream(stream)! })),
      ({ stream, topic }) => isPartitioned(topic, stream),
      { concurrency }
    )
    const { keys } = yield* bucket.keys(prefix).pipe(
      Effect.catchIf(
        (failure) => failure.error?.err_code === codes.streamNotFound,
        () => Effect.succeed({ keys: [] })
      )
    )
    const recorded = yield* Effect.filter(
      keys.map(fromKey).filter(names),
      (topic) =>
        Effect.gen(function*() {
          const entry = yield* bucket.get(toKey(topic))
          const [stream] = entry?.value === undefined ? [] : yield* api.streamNamesOf(Subject.ofPartitions(topic))
          return stream !== undefined && (yield* api.streamInfo(stream)).created === entry?.value?.stream
        }),
      { concurrency }
    )
    return [...ofOwn.map(({ topic }) => topic), ...recorded].sort()
  })
