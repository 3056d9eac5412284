/**
 * One timer for all that wait, each with a deadline: a timer for each would cost as much as what is waited for. It runs
 * on to the first deadline that it was set to, also when nothing waits any more.
 */
import { Chain, type Link } from "./Chain.js"

export interface Waiting<T> extends Link<T> {
  /** In `performance.now()`; `Infinity` is none. */
  readonly deadline: number
}

/** How long it rests after each look at all of them, in milliseconds: there may be thousands. */
const rest = 10

export class Deadlines<T extends Waiting<T>> {
  /** Those that wait, in the order in which they began to. */
  readonly waiting = new Chain<T>()
  private timer: NodeJS.Timeout | undefined
  private timerAt = Infinity
  private hasEnded = false

  constructor(private readonly onDue: (member: T) => void) {}

  add(member: T): void {
    this.waiting.append(member)
    if (member.deadline < this.timerAt) this.setTimer(member.deadline)
  }

  remove(member: T): void {
    this.waiting.remove(member)
  }

  /** Nobody is told any more, nor is a timer set for who is added later. */
  end(): void {
    this.hasEnded = true
    clearTimeout(this.timer)
  }

  private setTimer(at: number): void {
    if (this.hasEnded) return
    clearTimeout(this.timer)
    this.timerAt = at
    this.timer = setTimeout(this.check, Math.max(1, Math.ceil(at - performance.now())))
  }

  private readonly check = (): void => {
    const now = performance.now()
    this.timerAt = Infinity
    // A callback may remove other deadlines.
    for (const member of [...this.waiting]) if (member.deadline <= now) this.onDue(member)
    let next = Infinity
    for (const { deadline } of this.waiting) if (deadline < next) next = deadline
    if (next < Infinity) this.setTimer(Math.max(next, now + rest))
  }
}
