/**
 * Judges what handlers saw: the order of each aggregate, overlaps, losses and
 * duplicates. It looks when a handler starts. When the handler ends, it is too late to see a violation.
 *
 * A log such as `1, 2, 1, 2, 3` is legal if there was a crash or a take-over between the second and the third
 * entry: an aggregate may step back once for each of them. `1, 3, 2` is never legal.
 *
 * @since 0.1.0
 */

/**
 * A start of a handler that the contract does not allow.
 *
 * @since 0.1.0
 * @category models
 */
export interface Violation {
  readonly kind: "overlap" | "skip" | "step-back" | "unknown"
  readonly aggregate: string
  readonly sequence: number
  readonly expected: number
}

interface Aggregate {
  published: number
  /** The lowest sequence number that is not finished. */
  next: number
  /** One past the highest that was ever finished. */
  highest: number
  running: number | undefined
  rewinds: number
}

/**
 * Sequence numbers count from 0 within each aggregate, in the order in which they were published.
 *
 * @since 0.1.0
 * @category models
 */
export class OrderOracle {
  /** @since 0.1.0 */
  readonly violations: Array<Violation> = []
  /** @since 0.1.0 */
  duplicates = 0
  /** @since 0.1.0 */
  private readonly aggregates = new Map<string, Aggregate>()
  /** @since 0.1.0 */
  private rewinds = 0

  /**
   * The sequence number for the next message of an aggregate.
   *
   * @since 0.1.0
   */
  publish(aggregate: string): number {
    return this.of(aggregate).published++
  }

  /**
   * A crash or a take-over: from here on each aggregate may step back once more.
   *
   * @since 0.1.0
   */
  allowRewind(): void {
    this.rewinds++
    for (const aggregate of this.aggregates.values()) aggregate.running = undefined
  }

  /** @since 0.1.0 */
  start(name: string, sequence: number): void {
    const aggregate = this.of(name)
    const violate = (kind: Violation["kind"]) =>
      this.violations.push({ kind, aggregate: name, sequence, expected: aggregate.next })
    if (aggregate.running !== undefined) violate("overlap")
    aggregate.running = sequence
    if (sequence >= aggregate.published) violate("unknown")
    if (sequence > aggregate.next) violate("skip")
    if (sequence < aggregate.next) {
      if (aggregate.rewinds < this.rewinds) {
        aggregate.rewinds = this.rewinds
        aggregate.next = sequence
      } else {
        violate("step-back")
      }
    }
    if (sequence < aggregate.highest) this.duplicates++
  }

  /**
   * The handler ended. `finished`: the bus goes on to the next message.
   *
   * @since 0.1.0
   */
  end(name: string, sequence: number, finished: boolean): void {
    const aggregate = this.of(name)
    aggregate.running = undefined
    if (!finished) return
    aggregate.next = Math.max(aggregate.next, sequence + 1)
    aggregate.highest = Math.max(aggregate.highest, sequence + 1)
  }

  /** @since 0.1.0 */
  get published(): number {
    return this.sum((aggregate) => aggregate.published)
  }

  /** @since 0.1.0 */
  get finished(): number {
    return this.sum((aggregate) => aggregate.highest)
  }

  /**
   * The messages that were published and never finished.
   *
   * @since 0.1.0
   */
  get lost(): number {
    return this.published - this.finished
  }

  /** @since 0.1.0 */
  private sum(of: (aggregate: Aggregate) => number): number {
    let sum = 0
    for (const aggregate of this.aggregates.values()) sum += of(aggregate)
    return sum
  }

  /** @since 0.1.0 */
  private of(name: string): Aggregate {
    let aggregate = this.aggregates.get(name)
    if (aggregate === undefined) {
      aggregate = { published: 0, next: 0, highest: 0, running: undefined, rewinds: this.rewinds }
      this.aggregates.set(name, aggregate)
    }
    return aggregate
  }
}
