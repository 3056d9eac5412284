import * as Either from "effect/Either"
import * as AggregateId from "../AggregateId.js"
import type { Envelope } from "../Envelope.js"
import type * as EnvelopeCodec from "../EnvelopeCodec.js"
import { DecodeError } from "../EventBusError.js"
import type { IncomingMessage } from "../Transport.js"
import { Work, type WorkLane } from "./work.js"

/** How many mailboxes the messages without an aggregate id share. */
const roundRobinKeys = 256

/**
 * Finds out what a message is ordered by, and with it its mailbox.
 *
 * @internal
 */
export class Router {
  private counter = 0

  constructor(
    private readonly options: {
      readonly group: string
      /** Undefined for plain messages: their bytes are not looked at. */
      readonly codec: EnvelopeCodec.Service | undefined
      readonly aggregateIdFromSubject: boolean
    }
  ) {}

  route(message: IncomingMessage, lane: WorkLane, size: number): Work {
    const { codec, group } = this.options
    let aggregateId: string | undefined
    let envelope: Envelope | undefined
    let error: DecodeError | undefined
    if (codec !== undefined) {
      const decoded = codec.decode(message.value, message.headers)
      if (Either.isRight(decoded)) {
        envelope = decoded.right
        aggregateId = envelope.aggregateId
      } else {
        const { cause, issue, reason } = decoded.left.error
        error = new DecodeError({
          reason,
          issue,
          cause,
          position: { topic: message.topic, partition: message.partition, offset: message.offset }
        })
        aggregateId = decoded.left.aggregateId
      }
    }
    aggregateId ??= AggregateId.fromHeaders(message.headers) ?? AggregateId.fromKey(message.key) ??
      (this.options.aggregateIdFromSubject ? AggregateId.fromSubject(message.topic) : undefined)
    return new Work(
      message,
      lane,
      group,
      aggregateId ?? this.nextRoundRobin(),
      aggregateId,
      // A handler gets an envelope only where the topic has them and this one could be read.
      envelope as Envelope,
      error,
      size
    )
  }

  /** The space can't stand in an aggregate id, so these keys never meet a real one. */
  private nextRoundRobin(): string {
    const key = ` rr-${this.counter}`
    this.counter = (this.counter + 1) % roundRobinKeys
    return key
  }
}
