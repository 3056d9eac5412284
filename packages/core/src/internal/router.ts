import type { Envelope } from "../Envelope.js"
import type { IncomingMessage } from "../Transport.js"
import type { Incoming } from "./incoming.js"
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

  constructor(private readonly options: { readonly group: string; readonly incoming: Incoming }) {}

  route(message: IncomingMessage, lane: WorkLane, size: number): Work {
    const { aggregateId, envelope, isTombstone, mailbox, undecodable } = this.options.incoming.read(message)
    return new Work(
      message,
      lane,
      this.options.group,
      mailbox ?? this.nextRoundRobin(),
      aggregateId,
      // A handler gets an envelope only where the topic has them and this one could be read.
      envelope as Envelope,
      undecodable,
      size,
      isTombstone
    )
  }

  /** The space can't stand in an aggregate id, so these keys never meet a real one. */
  private nextRoundRobin(): string {
    const key = ` rr-${this.counter}`
    this.counter = (this.counter + 1) % roundRobinKeys
    return key
  }
}
