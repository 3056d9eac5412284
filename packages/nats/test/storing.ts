import type { PublishError } from "@effect-eventbus/core/EventBusError"
import type { Store, StoreChange, StoreEntry, TopicSpec } from "@effect-eventbus/core/Transport"
import { Chunk, Duration, Effect, Either, Stream } from "effect"
import * as StoreNames from "../src/internal/StoreNames.js"
import * as T from "./fixture.js"

export const timeout = Duration.seconds(10)

export const change = (key: string, value: string | null): StoreChange => ({
  key,
  value: value === null ? null : new TextEncoder().encode(value)
})

/** Writes, and fails when one of the changes was not written. */
export const write = (store: Store, partition: number, ...changes: ReadonlyArray<StoreChange>) =>
  Effect.flatMap(store.write(partition, changes, { timeout }), Effect.forEach((result) => result))

export const read = (store: Store, partition: number, options?: Parameters<Store["read"]>[1]) =>
  Effect.map(Stream.runCollect(store.read(partition, options)), Chunk.toReadonlyArray)

export const text = ({ key, value }: StoreEntry) => `${key}=${value === null ? "-" : new TextDecoder().decode(value)}`

/** What whoever applies the entries one after the other knows. */
export const mapOf = (entries: ReadonlyArray<StoreEntry>) => {
  const map: Record<string, string> = {}
  for (const { key, value } of entries) {
    if (value === null) delete map[key]
    else map[key] = new TextDecoder().decode(value)
  }
  return map
}

export const requestOf = (
  topic: TopicSpec = { ...T.topic(), partitions: 3 },
  name = "parked",
  group = "group"
) => ({ topic, name, group })

export const bucketOf = ({ group, name, topic }: ReturnType<typeof requestOf>) =>
  StoreNames.toBucket(group, topic.name, name)

export const streamOf = (request: ReturnType<typeof requestOf>) => StoreNames.streamOf(bucketOf(request))

export const errorOf = (result: Either.Either<number, PublishError>) => Either.getOrThrow(Either.flip(result))
