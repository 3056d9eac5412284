import type { Flight, Subscriber } from "./flight.js"

/** How long no second line follows, in milliseconds. */
const quiet = 30_000

/** How many aggregates are remembered as said or to be said. */
const maxKnown = 1_000

/**
 * Aggregates whose messages come from two partitions of one topic: nothing orders these messages. Each is counted and told to the observer. An
 * aggregate and topic is said once, with a line each 30 seconds at most.
 *
 * @internal
 */
export class OtherPartitions {
  private readonly known = new Set<string>()
  private saidAt = -Infinity
  /** Aggregates found since the last line. */
  private unsaid = 0
  private messages = 0

  constructor(private readonly subscriber: Subscriber, private readonly warn: (text: string) => void) {}

  found({ key, partition: before }: { readonly key: string; readonly partition: number }, flight: Flight): void {
    const { counters, name, observer, time } = this.subscriber
    const { offset, partition, topic } = flight
    counters.otherPartition++
    this.messages++
    observer.event?.({ _tag: "OtherPartition", subscription: name, topic, aggregate: key, before, partition, offset })
    const one = `${topic} ${key}`
    if (this.known.size < maxKnown && !this.known.has(one)) {
      this.known.add(one)
      this.unsaid++
    } else if (this.unsaid === 0) return
    const now = time()
    if (now - this.saidAt < quiet) return
    this.saidAt = now
    const others = this.unsaid - 1
    this.unsaid = 0
    this.warn(
      `${name}: ${key} came from partition ${before} of ${topic}, and now comes from partition ${partition}` +
        `${others > 0 ? `; the same goes for ${others} other aggregates` : ""}. ` +
        `The order of its messages is not known. All publishers of a topic need the same partitioner, and partitions must not be added ` +
        `while messages of its aggregates are unhandled. It was so for ${this.messages} messages until now. ` +
        `This is said once for an aggregate, and every 30 seconds at most.`
    )
  }
}
