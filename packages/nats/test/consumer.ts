import type {
  Assignment,
  Consumer,
  IncomingMessage,
  SubscribeRequest,
  TopicSpec
} from "@effect-eventbus/core/Transport"
import { Duration, Effect } from "effect"

export const numberOf = (message: IncomingMessage): number => Number(new TextDecoder().decode(message.value!))

export const request = (
  topic: TopicSpec,
  overrides: Partial<SubscribeRequest> = {}
): SubscribeRequest => ({
  topic,
  group: "group",
  semantics: "at-least-once",
  startFrom: "earliest",
  maxAboveWatermark: 10_000,
  maxUnfinished: 1_000,
  drainDeadline: Duration.seconds(1),
  ...overrides
})

/** The bus's side: remembers what it was offered, and finishes it as the test says. */
export class TestConsumer implements Consumer {
  readonly taken: Array<IncomingMessage> = []
  readonly unfinished = new Map<number, IncomingMessage>()
  readonly assignments: Array<Assignment> = []
  /** What broke the rules, in words. */
  readonly violations: Array<string> = []
  private readonly last = new Map<string, number>()
  private readonly finished = new Set<number>()
  private isRefusing = false
  isClosed = false

  constructor(
    private readonly options: {
      /** How many unfinished messages it holds. */
      readonly capacity?: number
      /** Called for each message; by default it is finished at once. */
      readonly onMessage?: (message: IncomingMessage, consumer: TestConsumer) => void
    } = {}
  ) {}

  get assignment(): Assignment {
    return this.assignments[this.assignments.length - 1]!
  }

  get numbers(): ReadonlyArray<number> {
    return this.taken.map(numberOf)
  }

  readonly assigned = (assignment: Assignment) => {
    this.assignments.push(assignment)
    this.last.clear()
    this.finished.clear()
    return {
      offer: (messages: ReadonlyArray<IncomingMessage>) => {
        if (this.isClosed) this.violations.push("offered after it was closed")
        if (this.isRefusing) this.violations.push("offered again before resume")
        const room = (this.options.capacity ?? Infinity) - this.unfinished.size
        const taken = messages.slice(0, Math.max(0, room))
        for (const message of taken) this.take(message)
        this.isRefusing = taken.length < messages.length
        return taken.length
      },
      close: () => {
        this.unfinished.clear()
        return Effect.succeed({ unfinished: 0, lost: 0 })
      }
    }
  }

  finish(message: IncomingMessage): void {
    this.unfinished.delete(message.offset)
    this.finished.add(message.offset)
    // Partitions are assigned in any order: the latest one need not be the message's.
    const ofPartition = this.assignments.filter(({ partition }) => partition === message.partition)
    ;(ofPartition.at(-1) ?? this.assignment).finish(message)
    if (!this.isRefusing) return
    this.isRefusing = false
    // The port forbids it from within an offer.
    queueMicrotask(() => this.assignment.resume())
  }

  private take(message: IncomingMessage): void {
    const { offset } = message
    if (this.unfinished.has(offset)) this.violations.push(`${offset} was offered while it is in hand`)
    if (this.finished.has(offset)) this.violations.push(`${offset} was offered after it was finished`)
    const aggregate = String(message.headers["X-Aggregate-ID"])
    const before = this.last.get(aggregate) ?? 0
    if (offset <= before) this.violations.push(`${offset} of ${aggregate} was offered after ${before}`)
    this.last.set(aggregate, offset)
    this.taken.push(message)
    this.unfinished.set(offset, message)
    if (this.options.onMessage === undefined) this.finish(message)
    else this.options.onMessage(message, this)
  }
}
