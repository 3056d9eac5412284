/**
 * A message as the bus takes it, of what the client holds: copied out of the socket's buffer, with its position.
 */
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { toAggregate } from "../Subject.js"
import { headerBlock, type Message } from "./Client.js"
import * as HeaderCodec from "./HeaderCodec.js"

/** Where a delivery stands: what the reply subject of a JetStream message says. */
export interface Position {
  readonly sequence: number
  /** Counts the deliveries of the consumer: each is one more than the one before. */
  readonly delivery: number
  /** How often this message was delivered, this time included. */
  readonly count: number
  /** Milliseconds since the epoch. */
  readonly timestamp: number
  /** How many messages the consumer has left to deliver for the first time; NaN where that is not said. */
  readonly pending: number
}

/**
 * `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<delivery>.<nanoseconds>.<pending>`, or with
 * `<domain>.<account>` before the stream and possibly more at the end.
 */
export const parsePosition = (reply: string): Position | undefined => {
  if (!reply.startsWith("$JS.ACK.")) return undefined
  // By hand: it runs for every message, and splitting makes a text of each token.
  let dots = 0
  for (let i = 0; i < reply.length; i++) if (reply.charCodeAt(i) === dot) ends[Math.min(dots++, 11)] = i
  if (dots !== 8 && dots < 10) return undefined
  const at = dots === 8 ? 3 : 5
  const count = toNumber(reply, ends[at]! + 1, ends[at + 1]!)
  const sequence = toNumber(reply, ends[at + 1]! + 1, ends[at + 2]!)
  const delivery = toNumber(reply, ends[at + 2]! + 1, ends[at + 3]!)
  const timestamp = toNumber(reply, ends[at + 3]! + 1, ends[at + 4]! - 6)
  const pendingAt = ends[at + 4]! + 1
  const pending = toNumber(reply, pendingAt, dots === at + 5 ? reply.length : ends[at + 5]!)
  return Number.isSafeInteger(sequence) && Number.isSafeInteger(delivery)
    ? { count, sequence, delivery, timestamp, pending }
    : undefined
}

const dot = 46

/** Where the first eleven dots of a reply subject are. */
const ends = new Array<number>(12).fill(0)

/** The digits from one place to another; NaN where something else is there. */
const toNumber = (text: string, from: number, to: number): number => {
  let number = 0
  for (let i = from; i < to; i++) {
    const digit = text.charCodeAt(i) - 48
    if (digit < 0 || digit > 9) return NaN
    number = number * 10 + digit
  }
  return number
}

/** Which partition of a topic a message is read from. */
export interface Source {
  readonly topic: string
  readonly partition: number
}

const encoder = new TextEncoder()

const keyOf = (topic: string, subject: string): Uint8Array | null => {
  const aggregateId = toAggregate(topic, subject)?.aggregateId
  return aggregateId === undefined ? null : encoder.encode(aggregateId)
}

/** Small ones are parts of Node's pool: memory of their own is three times as dear to make, and has to be collected. */
const copyOf = (bytes: Uint8Array): Uint8Array => {
  const copy = Buffer.allocUnsafe(bytes.length)
  copy.set(bytes)
  return copy
}

/** Whether the consumer has left out the body (`headers_only`): then a header says how large it is. */
export const isBodiless = (message: Message): boolean =>
  message.data.length === 0 && /\r\nNats-Msg-Size: *[1-9]/i.test(Buffer.from(headerBlock(message)).toString("latin1"))

/** Copies what the message needs out of the socket's buffer. `isAgain`: it may have come before, whatever the server says. */
export const toIncoming = (
  message: Message,
  position: Position,
  source: Source | undefined,
  isAgain: boolean
): IncomingMessage => {
  const subject = message.subject
  const decoded = HeaderCodec.decode(headerBlock(message), subject)
  return {
    topic: source?.topic ?? subject,
    partition: source?.partition ?? 0,
    offset: position.sequence,
    // Who writes to a partition's subjects without our headers has named the aggregate there.
    key: decoded.key ?? (source === undefined ? null : keyOf(source.topic, subject)),
    value: decoded.tombstone ? null : copyOf(message.data),
    headers: decoded.headers,
    timestamp: decoded.timestamp ?? position.timestamp,
    maybeDuplicate: isAgain || position.count > 1,
    deliveryCount: position.count
  }
}
