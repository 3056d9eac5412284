/** How many settlements are under way at once, as long as there is more to settle than there is room for. */
const width = 2

/** A turn keeps others waiting no longer, in milliseconds. */
const patience = 1_000

/**
 * The turns of lanes that settle first, and share the bound of what is settled and not yet handled. Lanes that settled all at once whatever
 * room they find would settle a few messages each, and every settlement costs the broker a write. As the lanes take turns, room
 * gathers meanwhile, and a settlement covers many messages. The first lane to ask is the first to be served.
 *
 * @internal
 */
export class SettleTurns {
  private readonly holders = new Set<SettleTurn>()
  private readonly queue = new Set<SettleTurn>()
  private timer: ReturnType<typeof setTimeout> | undefined

  /** How many have their turn. */
  get underway(): number {
    return this.holders.size
  }

  /** For `SettleTurn` only: whether it is this one's turn now. */
  ask(turn: SettleTurn): boolean {
    if (this.holders.has(turn)) return true
    if (this.holders.size < width) {
      this.holders.add(turn)
      return true
    }
    this.queue.add(turn)
    this.watch()
    return false
  }

  /** For `SettleTurn` only. */
  leaves(turn: SettleTurn): void {
    this.queue.delete(turn)
    if (this.holders.delete(turn)) this.serve()
    this.watch()
  }

  private serve(): void {
    for (const turn of this.queue) {
      if (this.holders.size >= width) return
      this.queue.delete(turn)
      this.holders.add(turn)
      turn.wake()
    }
  }

  /** Settlements that take very long must not keep the other lanes from theirs: their turns are over, whatever becomes of them. */
  private watch(): void {
    if (this.queue.size === 0) {
      clearTimeout(this.timer)
      this.timer = undefined
      return
    }
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      this.holders.clear()
      this.serve()
      this.watch()
    }, patience)
  }
}

/**
 * The turn of one lane.
 *
 * @internal
 */
export class SettleTurn {
  /** `wake` is called when it is this one's turn. */
  constructor(private readonly turns: SettleTurns, readonly wake: () => void) {}

  /** Whether it is this one's turn now. `false`: it is told when that is so. */
  begin(): boolean {
    return this.turns.ask(this)
  }

  /** It has had its turn, or does not want it any more. */
  end(): void {
    this.turns.leaves(this)
  }
}
