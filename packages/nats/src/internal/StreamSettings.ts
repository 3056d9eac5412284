/**
 * A topic's stream as the settings want it, and in what one that is there differs from that.
 */
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Duration from "effect/Duration"
import type { Settings } from "../NatsConfig.js"
import * as Subject from "../Subject.js"
import type { Api, StreamConfig } from "./Api.js"
import type { Placement } from "./Placement.js"

/** A setting of a stream that is not as it is wanted. */
export type Difference = readonly [name: keyof StreamConfig, wanted: unknown]

const nanos = (input: Duration.DurationInput): number => Math.round(Duration.toMillis(input) * 1e6)

/** `name=value` as the server has it. */
export const toMetadata = (entries: ReadonlyArray<string>): Readonly<Record<string, string>> =>
  Object.fromEntries(entries.map((entry) => {
    const at = entry.indexOf("=")
    return [entry.slice(0, at), entry.slice(at + 1)]
  }))

export const toPlacement = ({ placementCluster, placementTags }: Settings["options"]): StreamConfig["placement"] =>
  placementCluster === undefined && placementTags === undefined ? undefined : {
    ...(placementCluster === undefined ? {} : { cluster: placementCluster }),
    ...(placementTags === undefined ? {} : { tags: placementTags })
  }

export const toConfig = (api: Api, settings: Settings, topic: TopicSpec, at: Placement): StreamConfig => {
  const { maxAge, maxBytes, maxMessageSize, maxMessages, maxMessagesPerSubject, replicas, streamMetadata } =
    settings.options
  const window = settings.duplicateWindow * 1e6
  const shared = settings.sharedStreams.find((pattern) => Subject.covers(pattern, at.subject))
  const placement = toPlacement(settings.options)
  return {
    name: Subject.toStream(shared ?? topic.name),
    subjects: [shared ?? at.subject],
    // A shared stream has topics with different numbers of partitions.
    ...(shared === undefined && at.description !== undefined ? { description: at.description } : {}),
    storage: topic.kind === "envelope" ? settings.storage : settings.plainStorage,
    retention: settings.retention,
    discard: settings.discard,
    num_replicas: replicas ?? 1,
    max_age: maxAge === undefined ? 0 : nanos(maxAge),
    max_bytes: maxBytes ?? -1,
    max_msgs: maxMessages ?? -1,
    ...(maxMessageSize === undefined ? {} : { max_msg_size: maxMessageSize }),
    ...(maxMessagesPerSubject === undefined ? {} : {
      max_msgs_per_subject: maxMessagesPerSubject,
      // Without it the oldest of the subject are dropped, whatever `discard` says.
      ...(settings.discard === "new" ? { discard_new_per_subject: true } : {})
    }),
    // By itself the server takes our default, or its own limit where that is lower. It refuses a window that is longer than messages live.
    ...(settings.options.duplicateWindow === undefined
      ? {}
      : { duplicate_window: maxAge === undefined ? window : Math.min(window, nanos(maxAge)) }),
    ...(settings.compression === "none" || !api.isAtLeast(2, 10) ? {} : { compression: settings.compression }),
    ...(placement === undefined ? {} : { placement }),
    ...(streamMetadata === undefined ? {} : { metadata: toMetadata(streamMetadata) }),
    ...(settings.messageTtl ? { allow_msg_ttl: true } : {})
  }
}

/** What was set by the application has to be what the stream has; and its storage, where nothing can be changed. */
export const differences = (
  api: Api,
  settings: Settings,
  topic: TopicSpec,
  at: Placement,
  actual: StreamConfig
): ReadonlyArray<Difference> => {
  const wanted = toConfig(api, settings, topic, at)
  const { compression, discard, duplicateWindow, maxAge, maxBytes, maxMessages, plainStorage, replicas, retention } =
    settings.options
  const storage = topic.kind === "envelope" ? settings.options.storage : plainStorage
  const checked: ReadonlyArray<readonly [name: keyof StreamConfig, isSet: boolean, value?: unknown]> = [
    ["no_ack", actual.no_ack === true, false],
    ["storage", settings.streams === "validate" || storage !== undefined],
    ["retention", retention !== undefined],
    ["discard", discard !== undefined],
    ["num_replicas", replicas !== undefined],
    ["max_age", maxAge !== undefined],
    ["max_bytes", maxBytes !== undefined],
    ["max_msgs", maxMessages !== undefined],
    ["max_msg_size", wanted.max_msg_size !== undefined],
    ["max_msgs_per_subject", wanted.max_msgs_per_subject !== undefined],
    ["discard_new_per_subject", wanted.discard_new_per_subject !== undefined],
    ["duplicate_window", duplicateWindow !== undefined],
    ["compression", compression !== undefined && api.isAtLeast(2, 10), compression]
  ]
  const different: Array<Difference> = checked.flatMap(([name, isSet, value = wanted[name]]) =>
    !isSet || value === actual[name] ? [] : [[name, value] as const]
  )
  return [...different, ...structured(settings, wanted, actual)]
}

/** The settings that are more than a word or a number. Of the metadata only what was set is ours. */
const structured = (settings: Settings, wanted: StreamConfig, actual: StreamConfig): ReadonlyArray<Difference> => {
  const different: Array<Difference> = []
  if (wanted.placement !== undefined && !isSamePlacement(wanted.placement, actual.placement)) {
    different.push(["placement", wanted.placement])
  }
  if (wanted.metadata !== undefined && !hasMetadata(actual.metadata, wanted.metadata)) {
    different.push(["metadata", { ...actual.metadata, ...wanted.metadata }])
  }
  // It can be turned on, and never off.
  if (settings.messageTtl && actual.allow_msg_ttl !== true) different.push(["allow_msg_ttl", true])
  return different
}

type StreamPlacement = NonNullable<StreamConfig["placement"]>

const isSamePlacement = (wanted: StreamPlacement, actual: StreamPlacement = {}): boolean =>
  (wanted.cluster ?? "") === (actual.cluster ?? "") &&
  [...wanted.tags ?? []].sort().join() === [...actual.tags ?? []].sort().join()

/** Whether all of these are there; others have theirs beside them. */
export const hasMetadata = (
  actual: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>
): boolean => Object.entries(wanted).every(([name, value]) => actual?.[name] === value)

/** A setting as it is told to people. */
export const inWords = (value: unknown): string => typeof value === "object" ? JSON.stringify(value) : String(value)
