import { EventBusError, type Transport } from "@effect-eventbus/core"
import { Effect } from "effect"

/** An assignment that records what the lane says, and a partition that offers in order, as a transport does. */
export class ScriptedAssignment implements Transport.Assignment {
  readonly topic = "topic"
  readonly epoch: number = 7
  readonly finished: Array<number> = []
  readonly settled: Array<ReadonlyArray<number>> = []
  resumes = 0
  /** Refusals that were not followed by a resume yet. */
  refusals = 0
  /** What went against the port's contract. */
  readonly violations: Array<string> = []
  onSettle: (offsets: ReadonlyArray<number>) => Effect.Effect<void, EventBusError.SettlementFailed> = () => Effect.void
  closed = false
  owned = true
  lane!: Transport.Lane
  /** What the partition still has. */
  private log: Array<Transport.IncomingMessage> = []
  private offering = false

  constructor(readonly partition = 0) {}

  readonly finish = (message: Transport.IncomingMessage) => {
    if (this.closed) this.violations.push("finish after close")
    this.finished.push(message.offset)
  }

  readonly settle = (messages: ReadonlyArray<Transport.IncomingMessage>) =>
    Effect.suspend(() => {
      if (this.closed) this.violations.push("settle after close")
      const offsets = messages.map((message) => message.offset)
      return Effect.tap(this.onSettle(offsets), () => Effect.sync(() => this.settled.push(offsets)))
    })

  readonly resume = () => {
    if (this.closed) this.violations.push("resume after close")
    if (this.offering) this.violations.push("resume within offer")
    if (this.refusals === 0) this.violations.push("resume without a refusal")
    this.refusals = 0
    this.resumes++
    this.pump()
  }

  readonly isOwned = () => this.owned

  /** Adds messages to the partition and offers what is there, as long as nothing was refused. */
  append(...messages: ReadonlyArray<Transport.IncomingMessage>): void {
    this.log.push(...messages)
    if (this.refusals === 0) this.pump()
  }

  get waiting(): number {
    return this.log.length
  }

  close(options: Parameters<Transport.Lane["close"]>[0]): Effect.Effect<Transport.LaneReport> {
    return Effect.tap(this.lane.close(options), () => Effect.sync(() => (this.closed = true)))
  }

  failure(isRetryable: boolean): EventBusError.SettlementFailed {
    return new EventBusError.SettlementFailed({ topic: this.topic, partition: this.partition, isRetryable })
  }

  private pump(): void {
    if (this.log.length === 0) return
    const batch = this.log.slice(0, 64)
    this.offering = true
    const taken = this.lane.offer(batch)
    this.offering = false
    this.log.splice(0, taken)
    if (taken < batch.length) this.refusals = 1
    else this.pump()
  }
}

let offsets = 0

export const message = (key: string, given: Partial<Transport.IncomingMessage> = {}): Transport.IncomingMessage => ({
  topic: "topic",
  partition: 0,
  offset: offsets++,
  key: new TextEncoder().encode(key),
  value: new Uint8Array(10),
  headers: {},
  timestamp: 0,
  maybeDuplicate: false,
  deliveryCount: undefined,
  ...given
})

export const messages = (key: string, count: number, given: Partial<Transport.IncomingMessage> = {}) =>
  Array.from({ length: count }, () => message(key, given))
