import type { StoreChange } from "../../Transport.js"
import { type Account, accountKey, type Case, change, type Found, type Hand, handKey, lifeKey } from "./records.js"

/** How long a death counts as a sign that processes die here for other reasons, too. */
const deathsMatter = 24 * 3_600_000

/** How long a message is remembered that does not come again. */
const casesMatter = 7 * 24 * 3_600_000

const maxDeaths = 32
const maxCases = 64

/** How many finished suspects a page has. A start writes one page. */
const pageSize = 64

/** A message, as far as this goes. */
interface Message {
  readonly offset: number
  readonly timestamp: number
  readonly maybeDuplicate: boolean
  readonly deliveryCount: number | undefined
}

/**
 * What may be done with a message. `free`: it is handled like all others. `suspect`: it is run alone. `withheld`: it is not started while
 * its probation lasts. `convicted`: it goes to the failure policy.
 *
 * @internal
 */
export type Stance = "free" | "suspect" | "withheld" | "convicted"

/**
 * What an owner knows of one partition, from what the owners before it have left in the store. It decides what may be done with
 * each message, and says what has to be written. No effects: time and store are its callers'.
 *
 * @internal
 */
export class Suspects {
  private readonly cases = new Map<number, Case>()
  private deaths: ReadonlyArray<number>
  /** Suspects that were run alone and have ended, by this owner or one before it. */
  private readonly finished = new Set<number>()
  private oldHands: ReadonlyArray<string>
  private readonly counted: ReadonlyArray<string>
  /** Suspects that this owner has finished, page by page: those of the last page are written with each start. */
  private page = 0
  private onPage: Array<number> = []
  private held: Message | undefined
  /** What is written says that a message is in hand that is not. */
  private isStale = false
  /** All that is not withheld or convicted is free: the deaths are explained, or running alone has taken too long. */
  private isReleased = false
  private isProbationOver = false
  /** The highest offset of a suspect that has come, and the lowest of all messages. */
  private highest: number
  private lowest = Infinity
  /** Whether messages are suspected. */
  isOpen: boolean
  /** How many processes have to die with a message alone. One more, where some have died that no message explains. */
  readonly needed: number
  /** How many owners were found dead by this one. */
  readonly found: number
  /** The messages that were in hand alone when an owner died. */
  readonly struck: ReadonlyArray<Case>
  /** The messages that deaths without them have cleared. */
  readonly cleared: ReadonlyArray<Case>

  constructor(found: Found, readonly life: string, private readonly now: number, lives: number) {
    const { account, hands } = found
    const dead = Array.from(found.lives).filter(([life]) => life !== this.life && !account.counted.includes(life))
    for (const one of account.cases) if (now - one.last < casesMatter) this.cases.set(one.offset, one)
    const deaths = account.deaths.filter((at) => now - at < deathsMatter)
    const struck = new Set<number>()
    const cleared: Array<Case> = []
    for (const [life, { withheld }] of dead) {
      deaths.push(now)
      const held = lastPage(hands.get(life))?.held
      if (held !== undefined) struck.add(this.strike(held).offset)
      else {
        // The process has died without them.
        for (const offset of withheld) {
          const one = this.cases.get(offset)
          if (one !== undefined && !one.isConvicted && this.cases.delete(offset)) cleared.push(one)
        }
      }
    }
    this.deaths = deaths.slice(-maxDeaths)
    this.needed = lives - 2 + (deaths.length > lives - 1 ? 1 : 0)
    this.found = dead.length
    this.struck = Array.from(struck, (offset) => this.cases.get(offset)!)
    this.cleared = cleared
    this.counted = dead.length === 0 ? account.counted : dead.map(([life]) => life)
    this.isOpen = account.isOpen || dead.length > 0
    this.highest = account.upTo
    this.oldHands = Array.from(hands).flatMap(([life, pages]) => pages.map(([page]) => handKey(life, page)))
    for (const pages of hands.values()) {
      for (const [, { finished }] of pages) for (const offset of finished) this.finished.add(offset)
    }
    for (const offset of struck) this.finished.delete(offset)
    this.opened = this.openedOf(dead.map(([life]) => lifeKey(life)))
  }

  /** What is written before the first message is handed over. */
  readonly opened: ReadonlyArray<StoreChange>

  private openedOf(dead: ReadonlyArray<string>): ReadonlyArray<StoreChange> {
    const { life, now, withheld } = this
    // The account first: whoever reads it does not count these lives again, whether the rest is written or not.
    return [
      ...(dead.length > 0 ? [change(accountKey, this.account)] : []),
      change(lifeKey(life), { since: now, withheld }),
      ...dead.map((key) => change(key, null))
    ]
  }

  private strike({ offset, timestamp }: { readonly offset: number; readonly timestamp: number }): Case {
    const known = this.cases.get(offset)
    const former = known?.timestamp === timestamp ? known : undefined
    const one: Case = {
      offset,
      timestamp,
      strikes: (former?.strikes ?? 0) + 1,
      first: former?.first ?? this.now,
      last: this.now,
      isConvicted: former?.isConvicted ?? false
    }
    this.cases.set(offset, one)
    return one
  }

  /** How many deaths are not explained. */
  get unexplained(): number {
    return this.deaths.length
  }

  /** The offsets of the messages that are not started while their probation lasts. */
  get withheld(): ReadonlyArray<number> {
    const { needed } = this
    return Array.from(this.cases.values()).flatMap((one) =>
      one.strikes >= needed && !one.isConvicted ? [one.offset] : []
    )
  }

  caseOf({ offset, timestamp }: Pick<Message, "offset" | "timestamp">): Case | undefined {
    const one = this.cases.get(offset)
    return one?.timestamp === timestamp ? one : undefined
  }

  stanceOf(message: Message): Stance {
    if (!this.isOpen && this.cases.size === 0) return "free"
    const one = this.caseOf(message)
    if (one?.isConvicted === true) return "convicted"
    if (one !== undefined && one.strikes >= this.needed) return "withheld"
    if (one !== undefined && this.isOpen) return "suspect"
    if (!this.isOpen || this.isReleased || this.finished.has(message.offset)) return "free"
    const mayHaveBegun = message.maybeDuplicate || (message.deliveryCount ?? 1) > 1 || message.offset <= this.highest
    if (!mayHaveBegun) return "free"
    return "suspect"
  }

  /** A message has come. */
  saw(offset: number): void {
    if (offset < this.lowest) this.lowest = offset
  }

  /**
   * Takes over what the owners before have finished, as far as it may come again. Where they die one after the other, it would grow without end.
   * Called before the first suspect begins. Answers what is to be written.
   */
  inherits(): ReadonlyArray<StoreChange> {
    if (this.oldHands.length === 0 || this.lowest === Infinity) return []
    for (const offset of this.finished) if (offset < this.lowest) this.finished.delete(offset)
    const changes: Array<StoreChange> = []
    const rest = Array.from(this.finished)
    for (let at = 0; at < rest.length; at += pageSize) {
      this.page = at / pageSize
      this.onPage = rest.slice(at, at + pageSize)
      changes.push(this.hand)
    }
    for (const key of this.oldHands) changes.push(change(key, null))
    this.oldHands = []
    return changes
  }

  /** A message that is not free has come. */
  came({ offset }: Message): void {
    if (offset > this.highest) this.highest = offset
  }

  /** The message is run alone, as soon as the answer is written. */
  begins(message: Message): StoreChange {
    this.held = message
    this.isStale = true
    return this.hand
  }

  /** It is not run alone any more. With `isFinished` it has ended, and the process lives. */
  ends(message: Message, isFinished: boolean): void {
    this.held = undefined
    if (!isFinished) return
    this.finished.add(message.offset)
    if (this.onPage.length >= pageSize) {
      this.page++
      this.onPage = []
    }
    this.onPage.push(message.offset)
  }

  /** Says that nothing is in hand, if something else is written. */
  rests(): StoreChange | undefined {
    if (!this.isStale || this.held !== undefined) return undefined
    this.isStale = false
    return this.hand
  }

  private get hand(): StoreChange {
    const { held, life, onPage, page } = this
    return change(handKey(life, page), {
      held: held && { offset: held.offset, timestamp: held.timestamp },
      finished: onPage
    })
  }

  /** The process has lived through the probation. What comes from now on of what was withheld is convicted at once. */
  survived(): void {
    this.isProbationOver = true
  }

  /** Convicts a message that is withheld, if its probation is over, and answers what is written before it goes to the policy. */
  convict(message: Message): StoreChange | undefined {
    const one = this.caseOf(message)
    if (!this.isProbationOver || one === undefined || one.strikes < this.needed) return undefined
    this.cases.set(one.offset, { ...one, isConvicted: true })
    // The deaths are explained, and with them what made the others suspects.
    this.deaths = []
    this.isReleased = true
    return change(accountKey, this.account)
  }

  /** The others are run together from now on. */
  release(): void {
    this.isReleased = true
  }

  /** The message has ended for good. Answers what is to be written. */
  left(message: Message): StoreChange | undefined {
    if (this.caseOf(message) === undefined) return undefined
    this.cases.delete(message.offset)
    return change(accountKey, this.account)
  }

  /** All that was suspected has ended. Answers what is to be written: the store keeps nothing of it. */
  over(): ReadonlyArray<StoreChange> {
    this.isOpen = false
    this.held = undefined
    this.isStale = false
    return [
      change(accountKey, this.account),
      change(lifeKey(this.life), { since: this.now, withheld: [] }),
      ...this.hands.map((key) => change(key, null))
    ]
  }

  /** The partition is given up in order. Answers what is to be written. */
  closed(): ReadonlyArray<StoreChange> {
    if (!this.isOpen) return [change(lifeKey(this.life), null)]
    this.held = undefined
    const rests = this.rests()
    return [
      ...(rests === undefined ? [] : [rests]),
      change(accountKey, this.account),
      change(lifeKey(this.life), null)
    ]
  }

  private get hands(): ReadonlyArray<string> {
    const own = Array.from({ length: this.page + 1 }, (_, page) => handKey(this.life, page))
    return [...this.oldHands, ...own]
  }

  private get account(): Account {
    const { counted, deaths, highest, isOpen } = this
    return {
      cases: Array.from(this.cases.values()).slice(-maxCases),
      deaths,
      counted,
      isOpen,
      upTo: isOpen ? highest : -1
    }
  }
}

/** The pages before it are full, and may still say what was in hand when they were. */
const lastPage = (pages: ReadonlyArray<readonly [page: number, hand: Hand]> | undefined): Hand | undefined =>
  pages?.reduce((last, one) => one[0] > last[0] ? one : last)[1]
