/**
 * Messages that come without the body that they have, because somebody set `headers_only` on the consumer. Each comes again with its body when
 * the consumer is as it has to be. A message that never does was published with that header.
 */
import type { Message } from "./Client.js"
import { isBodiless } from "./RawMessage.js"
import type { SequenceSet } from "./SequenceSet.js"

/** How often a message is not believed to have no body. */
const maxDoubts = 3

export class Bodiless {
  private readonly counts = new Map<number, number>()

  /** Whether the consumer has to be looked at, before the message is believed. */
  isDoubtful(message: Message, sequence: number): boolean {
    if (!isBodiless(message)) return false
    const count = (this.counts.get(sequence) ?? 0) + 1
    this.counts.set(sequence, count)
    return count <= maxDoubts
  }

  /** Forgets the messages that are finished. */
  forget(finished: Pick<SequenceSet, "has">): void {
    for (const sequence of this.counts.keys()) if (finished.has(sequence)) this.counts.delete(sequence)
  }
}
