/**
 * A turn of messages that have no key: a mailbox's key, and its number.
 *
 * @internal
 */
export interface Turn {
  readonly key: string
  /** The slot, where slots are shared. */
  readonly index: number
  readonly owner: Keyless
}

/**
 * The turns that messages without a key take over the mailboxes of one subscription. Empty mailboxes come first, so that idle slots get work
 * first. An aggregate id has no space, so the keys differ from all ids.
 *
 * @internal
 */
export class Keyless {
  private readonly turns: ReadonlyArray<Turn>
  /** Those whose mailboxes are empty. */
  private readonly free: Array<Turn>
  private at = 0

  /** `suffix` tells the mailboxes from those before a switch, which may still have messages. */
  constructor(count: number, suffix: string) {
    this.turns = Array.from({ length: count }, (_, index) => ({ key: ` rr-${index}${suffix}`, index, owner: this }))
    this.free = this.turns.slice()
  }

  get next(): Turn {
    return this.free[0] ?? this.turns[this.at]!
  }

  take(turn: Turn): void {
    if (this.free[0] === turn) this.free.shift()
    else this.at = (this.at + 1) % this.turns.length
  }

  /** Its mailbox is empty. */
  give(turn: Turn): void {
    this.free.push(turn)
  }
}
