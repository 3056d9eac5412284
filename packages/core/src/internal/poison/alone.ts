/**
 * The suspects of one partition, as far as their turns go.
 *
 * @internal
 */
export interface Queue {
  /** The one whose turn is next, of those that wait. Undefined: none of them yet. */
  readonly pick: (waiting: ReadonlySet<Turn>) => Turn | undefined
}

/**
 * A suspect that wants to be run alone.
 *
 * @internal
 */
export interface Turn {
  readonly queue: Queue
  readonly offset: number
  /** It has the turn; or, with `false`, it waits in vain. */
  readonly wake: (hasTurn: boolean) => void
}

/** How many of one queue are run in a row while others wait. */
const inARow = 32

/**
 * Who is run alone. There is one of these in a process, because all of it dies at once: two suspects of different subscriptions, or of
 * different buses, must not be in hand at the same time either.
 *
 * @internal
 */
export class Alone {
  private holder: Turn | undefined
  private readonly queues = new Map<Queue, Set<Turn>>()
  private row = 0

  /** It is woken when it has the turn, possibly at once. */
  ask(turn: Turn): void {
    const waiting = this.queues.get(turn.queue) ?? new Set()
    this.queues.set(turn.queue, waiting)
    waiting.add(turn)
    this.poke()
  }

  /** It waits no more, or does not use its turn. */
  cancel(turn: Turn): void {
    if (this.holder === turn) this.done(turn)
    else this.take(turn)
  }

  isHeldBy(turn: Turn): boolean {
    return this.holder === turn
  }

  /** Whether the next turn is the same queue's. */
  staysWith({ queue }: Turn): boolean {
    return this.next()?.queue === queue
  }

  /** It has had its turn. */
  done(turn: Turn): void {
    if (this.holder !== turn) return
    this.poke(true)
  }

  /** Somebody may be ready who was not. */
  poke(isOver = false): void {
    if (isOver) {
      const next = this.next()
      this.row = next?.queue === this.holder?.queue ? this.row + 1 : 0
      this.holder = undefined
      this.give(next)
    } else if (this.holder === undefined) this.give(this.next())
  }

  /** All of the queue wait in vain. */
  dismiss(queue: Queue): void {
    const waiting = this.queues.get(queue)
    this.queues.delete(queue)
    for (const turn of waiting ?? []) turn.wake(false)
  }

  private give(turn: Turn | undefined): void {
    if (turn === undefined) return
    this.take(turn)
    this.holder = turn
    turn.wake(true)
  }

  private take(turn: Turn): void {
    const waiting = this.queues.get(turn.queue)
    waiting?.delete(turn)
    if (waiting?.size === 0) this.queues.delete(turn.queue)
  }

  private next(): Turn | undefined {
    const current = this.holder?.queue
    const own = current && this.queues.get(current)
    if (own !== undefined && this.row < inARow) {
      const turn = current!.pick(own)
      if (turn !== undefined) return turn
    }
    for (const [queue, waiting] of this.queues) {
      if (queue === current) continue
      const turn = queue.pick(waiting)
      if (turn === undefined) continue
      // It goes behind the others for its next row.
      this.queues.delete(queue)
      this.queues.set(queue, waiting)
      return turn
    }
    return own && current!.pick(own)
  }
}

/**
 * Of this process.
 *
 * @internal
 */
export const ofProcess = new Alone()
