import * as Effect from "effect/Effect"
import type { Flight, Subscriber } from "./flight.js"

/** How long no second line follows, in milliseconds. */
const quiet = 30_000

/** How many aggregates are remembered as said or to be said. */
const maxKnown = 1_000

/** An aggregate's two partitions. */
interface Found {
  readonly key: string
  readonly topic: string
  readonly before: number
  readonly now: number
}

/**
 * Aggregates whose messages come from two partitions of one topic: nothing orders these messages. Each is counted and told to the observer. An
 * aggregate and topic is said once, with a line each 30 seconds at most.
 *
 * @internal
 */
export class OtherPartitions {
  private readonly known = new Set<string>()
  /** Aggregates found since the last line, and the last of them. */
  private unsaid = 0
  private last: Found | undefined
  /** There was a line, and no other one follows yet. */
  private isQuiet = false
  private messages = 0

  /** `fork` runs an effect until the subscription ends. */
  constructor(
    private readonly subscriber: Subscriber,
    private readonly fork: (effect: Effect.Effect<void>) => void,
    private readonly warn: (text: string) => Effect.Effect<void>
  ) {}

  found({ key, partition: before }: { readonly key: string; readonly partition: number }, flight: Flight): void {
    const { counters, name, observer } = this.subscriber
    const { offset, partition, topic } = flight
    counters.otherPartition++
    this.messages++
    observer.event?.({ _tag: "OtherPartition", subscription: name, topic, aggregate: key, before, partition, offset })
    const one = `${topic} ${key}`
    if (this.known.size >= maxKnown || this.known.has(one)) return
    this.known.add(one)
    this.unsaid++
    this.last = { key, topic, before, now: partition }
    if (this.isQuiet) return
    this.isQuiet = true
    this.fork(this.saying)
  }

  /** The first one at once, and the others when it has been quiet, or the subscription ends. */
  private readonly saying: Effect.Effect<void> = Effect.suspend(() =>
    Effect.zipRight(
      Effect.uninterruptible(this.say),
      Effect.sleep(quiet).pipe(
        Effect.onInterrupt(() => this.say),
        Effect.zipRight(Effect.suspend(() => {
          if (this.unsaid > 0) return this.saying
          this.isQuiet = false
          return Effect.void
        }))
      )
    )
  )

  private readonly say: Effect.Effect<void> = Effect.suspend(() => {
    const { last, messages, subscriber: { name }, unsaid } = this
    if (last === undefined || unsaid === 0) return Effect.void
    this.unsaid = 0
    const { before, key, now, topic } = last
    const others = unsaid - 1
    return this.warn(
      `${name}: ${key} came from partition ${before} of ${topic}, and now comes from partition ${now}` +
        `${others > 0 ? `; the same goes for ${others} other aggregates` : ""}. ` +
        `The order of its messages is not known. All publishers of a topic need the same partitioner, and partitions must not be added ` +
        `while messages of its aggregates are unhandled. It was so for ${messages} messages until now. ` +
        `This is said once for an aggregate, and every 30 seconds at most.`
    )
  })
}
