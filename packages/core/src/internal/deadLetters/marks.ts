import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import type { PublishError, ReadFailed } from "../../EventBusError.js"
import type * as Transport from "../../Transport.js"
import * as Safely from "../safely.js"
import type { Letter } from "./model.js"

/** Who and why is a person's text. */
const maxText = 256

/** How many marks that nobody needs any more are removed at a time. */
const removedAtOnce = 500

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** What is remembered of a letter. */
export interface Mark {
  readonly done: "discarded" | "released"
  readonly who: string
  readonly why: string
  readonly at: number
}

/**
 * Which letters of a partition are released or discarded: their times, by their offsets. The time tells a letter from one that had its offset in
 * a topic that was deleted and made again.
 *
 * @internal
 */
export class Marks {
  private readonly times = new Map<number, number>()

  has({ position: { offset }, time }: Letter): boolean {
    return this.times.get(offset) === time
  }

  set(offset: number, time: number): void {
    this.times.set(offset, time)
  }

  delete(offset: number): void {
    this.times.delete(offset)
  }

  /** Those of letters that the topic does not have any more. */
  below(offset: number): ReadonlyArray<number> {
    return Array.from(this.times.keys()).filter((one) => one < offset)
  }
}

/** @internal */
export const read = (
  store: Transport.Store | undefined,
  partition: number
): Effect.Effect<Marks, ReadFailed> =>
  Effect.gen(function*() {
    const marks = new Marks()
    if (store === undefined) return marks
    yield* Stream.runForEachChunk(store.read(partition), (entries) =>
      Effect.sync(() => {
        for (const { key, value } of entries) {
          const offset = Number(key)
          const time = value === null ? undefined : timeOf(value)
          if (time === undefined) marks.delete(offset)
          else marks.set(offset, time)
        }
      }))
    return marks
  })

/** What can't be read marks nothing. */
const timeOf = (value: Uint8Array): number | undefined => {
  try {
    const time: unknown = (JSON.parse(decoder.decode(value)) as { readonly time?: unknown } | null)?.time
    return typeof time === "number" ? time : undefined
  } catch {
    return undefined
  }
}

/** Writes a mark for each letter, and answers the first failure. */
export const write = (
  store: Transport.Store,
  partition: number,
  marks: Marks,
  letters: ReadonlyArray<Letter>,
  { at, done, who, why }: Mark,
  timeout: Duration.Duration
): Effect.Effect<void, PublishError> =>
  letters.length === 0 ? Effect.void : store.write(
    partition,
    letters.map(({ position: { offset }, time }) => ({
      key: String(offset),
      value: encoder.encode(
        JSON.stringify({ done, time, at, who: Safely.cut(who, maxText), why: Safely.cut(why, maxText) })
      )
    })),
    { timeout }
  ).pipe(
    Effect.flatMap((results) =>
      Effect.asVoid(
        Effect.fromNullable(results.find(Either.isLeft)).pipe(
          Effect.matchEffect({
            onFailure: () => Effect.void,
            onSuccess: ({ left }) => Effect.fail(left)
          })
        )
      )
    ),
    Effect.tap(() =>
      Effect.sync(() => {
        for (const { position: { offset }, time } of letters) marks.set(offset, time)
      })
    )
  )

/** Removes the marks of letters that are gone. If that fails, it is done another time. */
export const removeBelow = (
  store: Transport.Store,
  partition: number,
  marks: Marks,
  offset: number,
  timeout: Duration.Duration
): Effect.Effect<void> => {
  const gone = marks.below(offset).slice(0, removedAtOnce)
  if (gone.length === 0) return Effect.void
  return Effect.asVoid(store.write(partition, gone.map((one) => ({ key: String(one), value: null })), { timeout }))
}
