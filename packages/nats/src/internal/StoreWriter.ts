/**
 * Writes the changes of a store. Each attempt names the revision that it replaces, so that of all attempts of a write one at most is
 * written, and one that arrives after a later write is refused.
 */
import {
  BusClosed,
  InvalidMessage,
  MessageTooLarge,
  type PublishError,
  PublishFailed
} from "@effect-eventbus/core/EventBusError"
import type { StoreChange } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Settings } from "../NatsConfig.js"
import { codes, isStorageFull, isTemporary, meaningOf, type NatsRequestFailed, toPublishError } from "../NatsErrors.js"
import * as Api from "./Api.js"
import type { Connection } from "./Connection.js"
import type { StoreBucket } from "./StoreBucket.js"
import type { StoreMarks } from "./StoreMarks.js"
import * as StoreNames from "./StoreNames.js"
import * as StoreRecord from "./StoreRecord.js"
import { Turns } from "./Turns.js"

type Result = Either.Either<number, PublishError>

/** The revisions of so many keys are remembered: the others cost a request more. */
const mostRevisions = 10_000

/** Before an attempt is repeated that was certainly not written, in milliseconds. */
const firstPause = 50
const longestPause = 1_000

const nothing = new Uint8Array(0)

let serial = 0

export interface Options {
  readonly connection: Connection
  readonly settings: Settings
  readonly topic: string
  readonly at: StoreBucket
  readonly marks: StoreMarks
}

/** What is known of a write while it is tried. */
interface State {
  readonly name: string
  readonly subject: string
  readonly id: string
  readonly isRemoval: boolean
  deadline: number
  expected: number
  /** Whether an attempt may have been written, or may still be, that nobody has answered. */
  maybeWritten: boolean
  reason: "Timeout" | "Unreachable"
  cause: unknown
  pause: number
}

export class StoreWriter {
  isClosed = false
  private readonly turns = new Turns<number>()
  /** The latest are at the end. */
  private readonly revisions = new Map<string, number>()

  constructor(private readonly options: Options) {}

  /** What was read, or written, of a key. */
  learn(name: string, revision: number): void {
    const known = this.revisions.get(name)
    this.revisions.delete(name)
    this.revisions.set(name, Math.max(revision, known ?? 0))
    if (this.revisions.size <= mostRevisions) return
    for (const oldest of this.revisions.keys()) {
      this.revisions.delete(oldest)
      return
    }
  }

  write(partition: number, changes: ReadonlyArray<StoreChange>, millis: number): Effect.Effect<ReadonlyArray<Result>> {
    return Effect.suspend(() => {
      const { topic } = this.options
      if (changes.length === 0) return Effect.succeed([])
      const deadline = performance.now() + millis
      const timedOut = new PublishFailed({
        topic,
        reason: this.options.connection.isUp() ? "Timeout" : "Unreachable",
        outcome: "not-written",
        cause: "the changes before it of the same partition took all of the time"
      })
      return Effect.map(
        this.turns.take(partition, millis, this.writeAll(partition, changes, deadline)),
        (results) => results ?? changes.map(() => Either.left(timedOut))
      )
    })
  }

  private writeAll(partition: number, changes: ReadonlyArray<StoreChange>, deadline: number) {
    const { topic } = this.options
    return Effect.gen(this, function*() {
      const results: Array<Result> = []
      let failed: PublishError | undefined
      for (const change of changes) {
        const result: Result = failed === undefined
          ? yield* Effect.either(this.put(partition, change, deadline))
          : Either.left(behind(topic, failed))
        if (Either.isLeft(result)) failed ??= result.left
        results.push(result)
      }
      return results
    })
  }

  private put(partition: number, { key, value }: StoreChange, deadline: number): Effect.Effect<number, PublishError> {
    return Effect.suspend(() => {
      const { at, connection, marks, topic } = this.options
      const issue = StoreNames.keyIssue(key)
      if (issue !== undefined) return new InvalidMessage({ topic, issue })
      if (this.isClosed) return new BusClosed({ topic })
      const token = StoreNames.toToken(key)
      const name = `${partition}.${token}`
      const body = value ?? nothing
      const id = `${connection.inbox}.w${(serial++).toString(36)}`
      const headers = (expected: number) =>
        StoreRecord.toHeaders(expected, id, StoreNames.isHashed(token) ? key : undefined, value === null)
      const size = headers(Number.MAX_SAFE_INTEGER).length + body.length
      const limit = connection.maxPayload()
      if (size > limit) return new MessageTooLarge({ topic, size, limit })
      const state: State = {
        name,
        subject: at.writes + name,
        id,
        isRemoval: value === null,
        deadline,
        expected: this.revisions.get(name) ?? 0,
        maybeWritten: false,
        reason: connection.isUp() ? "Timeout" : "Unreachable",
        cause: undefined,
        pause: firstPause
      }
      // While it is not known which one it has.
      this.revisions.delete(name)
      return Effect.tap(this.untilWritten(state, body, headers, size), (revision) =>
        Effect.sync(() => {
          this.learn(name, revision)
          if (value === null) marks.removed(name, revision)
          else marks.written(name)
        }))
    })
  }

  private untilWritten(
    state: State,
    body: Uint8Array,
    headers: (expected: number) => Uint8Array,
    size: number
  ): Effect.Effect<number, PublishError> {
    const { connection, settings, topic } = this.options
    return Effect.gen(this, function*() {
      // What is removed is there, most likely, and then the first attempt would be in vain.
      if (state.isRemoval && state.expected === 0) yield* this.overtaken(state)
      for (;;) {
        const left = state.deadline - performance.now()
        if (left <= 0) return yield* failed(topic, state, state.reason)
        if (!connection.isUp()) {
          state.reason = "Unreachable"
          if (connection.client.isClosed()) return yield* failed(topic, state, "Unreachable")
          yield* Effect.sleep(Math.min(firstPause, left))
          continue
        }
        const timeout = Math.min(settings.ackTimeout, left)
        const answer = yield* Effect.either(
          Api.request(connection, state.subject, timeout, body, headers(state.expected))
        )
        if (Either.isRight(answer)) {
          const { seq } = answer.right as { readonly seq?: unknown }
          if (typeof seq === "number") return seq
          state.maybeWritten = true
          state.cause = "the answer is no acknowledgement of a stream"
          return yield* failed(topic, state, "Rejected")
        }
        const revision = yield* this.answered(state, answer.left, size)
        if (revision !== undefined) return revision
      }
    })
  }

  /** What a failed attempt means: the revision that an earlier one has written, an error, or that it is to be tried again. */
  private answered(
    state: State,
    failure: NatsRequestFailed,
    size: number
  ): Effect.Effect<number | undefined, PublishError> {
    const { topic } = this.options
    state.cause = failure
    switch (failure.reason) {
      case "Timeout":
        state.maybeWritten = true
        state.reason = "Timeout"
        return Effect.succeed(undefined)
      case "Disconnected":
        state.maybeWritten = true
        state.reason = "Unreachable"
        return Effect.succeed(undefined)
      case "Closed":
        state.maybeWritten = true
        return failed(topic, state, "Unreachable")
      case "NoResponders":
        state.reason = "Unreachable"
        state.cause = `nobody answers for the bucket "${this.options.at.bucket}": it was deleted, or has no leader`
        return pausing(state)
      case "Denied":
        return failed(topic, state, "Rejected")
      case "Api": {
        const error = failure.error!
        if (meaningOf(error) === "WrongLast") return this.overtaken(state)
        if (isTemporary(error)) {
          state.reason = "Timeout"
          return pausing(state)
        }
        // Of an answer that can't be read nobody knows what it says.
        if (error.err_code === 0) state.maybeWritten = true
        if (state.maybeWritten) return failed(topic, state, isStorageFull(failure) ? "StorageFull" : "Rejected")
        return Effect.fail(toPublishError(topic, size, error))
      }
    }
  }

  /** Something else is the key's last change than what the attempt was to replace: perhaps what an earlier one has written. */
  private overtaken(state: State): Effect.Effect<number | undefined, PublishError> {
    const { at, connection, settings, topic } = this.options
    const left = Math.max(1, state.deadline - performance.now())
    return lastOf(connection, settings, at, state.name, Math.min(settings.requestTimeout, left)).pipe(
      Effect.matchEffect({
        onSuccess: (last): Effect.Effect<number | undefined, PublishError> => {
          if (last !== undefined && StoreRecord.writeOf(last.headers) === state.id) return Effect.succeed(last.revision)
          if (state.maybeWritten) {
            // Whatever is there may be newer than what is to be written.
            state.cause = "the key was changed by somebody else meanwhile, after an attempt that may have been written"
            return failed(topic, state, "WrongLastSequence")
          }
          // A leader that has just been elected can say what it had a moment ago.
          const revision = last?.revision ?? 0
          const isNews = revision !== state.expected
          state.expected = revision
          return isNews ? Effect.succeed(undefined) : pausing(state)
        },
        onFailure: (failure) => {
          state.cause = failure
          return failure.reason === "Denied" ? failed(topic, state, "Rejected") : pausing(state)
        }
      })
    )
  }
}

/** It was certainly not written, and is tried again a little later. */
const pausing = (state: State): Effect.Effect<undefined> => {
  const left = Math.max(0, state.deadline - performance.now())
  const pause = Math.min(state.pause, left)
  // There is no time for another attempt: nobody would know whether it was written.
  if (left - pause < firstPause) state.deadline = -Infinity
  state.pause = Math.min(longestPause, state.pause * 2)
  return Effect.as(Effect.sleep(pause), undefined)
}

const failed = (
  topic: string,
  { cause, maybeWritten }: State,
  reason: PublishFailed["reason"]
): Effect.Effect<never, PublishFailed> =>
  Effect.fail(new PublishFailed({ topic, reason, outcome: maybeWritten ? "unknown" : "not-written", cause }))

const behind = (topic: string, error: PublishError): PublishFailed =>
  new PublishFailed({
    topic,
    reason: error._tag === "PublishFailed" ? error.reason : "Rejected",
    outcome: "not-written",
    cause: `the change before it, of the same partition, failed: ${error.message}`
  })

/** A key's last change as the stream's leader has it. */
export interface Last {
  readonly revision: number
  readonly headers: Uint8Array
  readonly data: Uint8Array
}

export const lastOf = (
  connection: Connection,
  settings: Settings,
  { root, stream }: StoreBucket,
  name: string,
  timeout: number
): Effect.Effect<Last | undefined, NatsRequestFailed> =>
  Api.request(connection, `${settings.apiPrefix}.STREAM.MSG.GET.${stream}`, timeout, { last_by_subj: root + name })
    .pipe(
      Effect.map((answer): Last | undefined => {
        const { data = "", hdrs = "", seq } = (answer as { readonly message: Message }).message
        return { revision: seq, headers: Buffer.from(hdrs, "base64"), data: Buffer.from(data, "base64") }
      }),
      Effect.catchIf((failure) => failure.error?.err_code === codes.noMessage, () => Effect.succeed(undefined))
    )

interface Message {
  readonly seq: number
  readonly data?: string
  readonly hdrs?: string
}
