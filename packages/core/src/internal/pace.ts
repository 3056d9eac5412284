/** How many messages a lane takes at once while handlers wait for something. */
const step = 64

/** @internal */
export interface PaceOptions {
  readonly unfinished: () => number
  /** The most that is taken at once. It is reached if messages are finished as fast as they come. */
  readonly most: number
  readonly nextTurn: ((run: () => void) => void) | undefined
  /** Handlers wait for the event loop's turn. Only after it can be seen whether they wait for anything else. */
  readonly isTurnAwaited: () => boolean
  /** More can be taken. Called after each time that `isOver` became true. */
  readonly resume: () => void
}

/**
 * How many messages a lane takes before the event loop has its turn. In that turn the handlers go on that no longer wait. So as
 * many handlers run at once as the processor can serve, and the other messages stay bytes at the transport. Messages that are
 * taken all at once only wait longer, and live long enough for the garbage collector to copy each of them twice.
 *
 * @internal
 */
export class Pace {
  /** Nothing is taken until `resume`. */
  isOver = false
  private taken = 0
  private atOnce = step

  constructor(private readonly options: PaceOptions) {}

  took(): void {
    this.taken++
    if (this.taken < this.atOnce || this.options.nextTurn === undefined) return
    this.isOver = true
    // The actors that were woken run before this microtask. If most handlers have ended by then, the lane goes on at once.
    queueMicrotask(this.decide)
  }

  private readonly decide = (): void => {
    if (this.grows()) return this.goOn()
    const { isTurnAwaited, nextTurn } = this.options
    if (!isTurnAwaited()) {
      this.atOnce = step
      return nextTurn!(this.goOn)
    }
    nextTurn!(() => {
      this.grows()
      this.goOn()
    })
  }

  private grows(): boolean {
    const { most, unfinished } = this.options
    if (unfinished() * 2 > this.atOnce) return false
    this.atOnce = Math.min(most, this.atOnce * 2)
    return true
  }

  private readonly goOn = (): void => {
    this.isOver = false
    this.taken = 0
    this.options.resume()
  }
}
