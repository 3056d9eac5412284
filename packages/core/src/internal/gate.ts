import { type Share, Waiter } from "./quota.js"
import type { Rate } from "./rate.js"

/**
 * Where one lane waits for a rate. The lane asks for its next message again and again until it takes it, and that counts once.
 *
 * @internal
 */
export class Gate {
  private readonly share: Share
  private readonly waiter: Waiter
  /** The message that comes next is within the rate. */
  private isPassed = false

  constructor(private readonly rate: Rate, wake: () => void) {
    this.share = rate.quota.share()
    this.waiter = new Waiter(wake)
  }

  /** Whether the next message is within the rate. `false`: the lane is woken when it is. */
  admits(): boolean {
    return this.isPassed ||= this.rate.take(this.share, 1, this.waiter)
  }

  /** The lane has taken the message. */
  took(): void {
    this.isPassed = false
  }

  /** The lane waits no more, and needs nothing that is reserved for it. */
  cancel(): void {
    this.share.cancel(this.waiter)
  }

  /** Nobody waits here any more. */
  end(): void {
    this.share.end()
  }
}
