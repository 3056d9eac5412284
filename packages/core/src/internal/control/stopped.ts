import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Publishing } from "../../Control.js"
import { PublishFailed, PublishStopped } from "../../EventBusError.js"
import type { PublishError } from "../../EventBusError.js"
import * as MailboxKey from "../mailboxKey.js"

/** How many aggregates are remembered. With more of them a topic stops as a whole. */
const maxStopped = 10_000

type Result<A> = Either.Either<A, PublishError>

/** What a message that somebody publishes is ordered by. */
interface Ordered {
  readonly aggregateId?: unknown
  readonly key?: unknown
}

/**
 * The aggregates whose publishing has stopped: a message could not be published, or may not have been, and those behind it would overtake it.
 *
 * @internal
 */
export class Stopped {
  private readonly topics = new Map<string, Map<string, PublishError>>()
  /** Topics that have stopped as a whole. */
  private readonly whole = new Map<string, PublishError>()
  private count = 0

  /** Publishes one message, unless its aggregate has stopped. */
  one<A>(topic: string, message: Ordered, publish: Effect.Effect<A, PublishError>): Effect.Effect<A, PublishError> {
    return Effect.suspend(() => {
      const key = keyOf(message)
      if (key === undefined) return publish
      const stopped = this.refusal(topic, key)
      if (stopped !== undefined) return Effect.fail(stopped)
      return Effect.onExit(publish, (exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) {
            this.failed(
              topic,
              key,
              Option.getOrElse(Cause.failureOption(exit.cause), () => unknown(topic))
            )
          }
        }))
    })
  }

  /**
   * Publishes several messages. Those of one aggregate go one after the other, and none follows one that failed. `publish` answers
   * for each.
   */
  all<M extends Ordered, A>(
    topic: string,
    messages: ReadonlyArray<M>,
    publish: (messages: ReadonlyArray<M>) => Effect.Effect<ReadonlyArray<Result<A>>>
  ): Effect.Effect<ReadonlyArray<Result<A>>> {
    return Effect.gen(this, function*() {
      const keys = messages.map(keyOf)
      const results = new Array<Result<A>>(messages.length)
      for (const wave of wavesOf(keys)) {
        const sent: Array<number> = []
        for (const index of wave) {
          const stopped = this.refusal(topic, keys[index])
          if (stopped === undefined) sent.push(index)
          else results[index] = Either.left(stopped)
        }
        if (sent.length === 0) continue
        const answers = yield* Effect.onExit(
          publish(sent.map((index) => messages[index]!)),
          (exit) =>
            Effect.sync(() => {
              if (Exit.isFailure(exit)) { for (const index of sent) this.failed(topic, keys[index], unknown(topic)) }
            })
        )
        for (const [n, index] of sent.entries()) {
          const answer = results[index] = answers[n]!
          if (Either.isLeft(answer)) this.failed(topic, keys[index], answer.left)
        }
      }
      return results
    })
  }

  readonly control: Publishing = {
    stopped: Effect.sync(() => [
      ...Array.from(this.whole, ([topic, cause]) => ({ topic, aggregate: undefined, cause })),
      ...Array.from(
        this.topics,
        ([topic, aggregates]) => Array.from(aggregates, ([aggregate, cause]) => ({ topic, aggregate, cause }))
      ).flat()
    ]),
    resume: (topic, aggregate) =>
      Effect.sync(() => {
        const name = typeof topic === "string" ? topic : topic.name
        const aggregates = this.topics.get(name)
        if (aggregate === undefined) {
          this.count -= aggregates?.size ?? 0
          const isOne = this.topics.delete(name)
          return this.whole.delete(name) || isOne
        }
        if (aggregates?.delete(aggregate) !== true) return false
        this.count--
        if (aggregates.size === 0) this.topics.delete(name)
        return true
      })
  }

  private refusal(topic: string, key: string | undefined): PublishStopped | undefined {
    if (key === undefined || (this.count === 0 && this.whole.size === 0)) return undefined
    const ofTopic = this.whole.get(topic)
    if (ofTopic !== undefined) return new PublishStopped({ topic, aggregate: undefined, cause: ofTopic })
    const cause = this.topics.get(topic)?.get(key)
    return cause === undefined ? undefined : new PublishStopped({ topic, aggregate: key, cause })
  }

  private failed(topic: string, key: string | undefined, cause: PublishError): void {
    if (key === undefined || cause._tag === "BusClosed" || cause._tag === "PublishStopped") return
    const aggregates = this.topics.get(topic) ?? new Map<string, PublishError>()
    if (aggregates.has(key)) return
    if (this.count >= maxStopped) {
      if (!this.whole.has(topic)) this.whole.set(topic, cause)
      return
    }
    this.topics.set(topic, aggregates)
    aggregates.set(key, cause)
    this.count++
  }
}

const unknown = (topic: string): PublishFailed =>
  new PublishFailed({
    topic,
    reason: "Timeout",
    outcome: "unknown",
    cause: "the publisher was interrupted before the broker had answered"
  })

const decoder = new TextDecoder("utf-8", { fatal: true })

const keyOf = ({ aggregateId, key }: Ordered): string | undefined => {
  if (typeof aggregateId === "string") return aggregateId
  if (typeof key === "string") return key
  if (!(key instanceof Uint8Array)) return undefined
  try {
    return decoder.decode(key)
  } catch {
    return MailboxKey.ofKey(key)
  }
}

/** The first messages of all aggregates, then the second ones, and so on. Messages without a key are in the first. */
const wavesOf = (keys: ReadonlyArray<string | undefined>): ReadonlyArray<ReadonlyArray<number>> => {
  const waves: Array<Array<number>> = []
  const counts = new Map<string, number>()
  for (const [index, key] of keys.entries()) {
    const wave = key === undefined ? 0 : counts.get(key) ?? 0
    if (key !== undefined) counts.set(key, wave + 1)
    if (waves[wave] === undefined) waves[wave] = []
    waves[wave].push(index)
  }
  return waves
}
