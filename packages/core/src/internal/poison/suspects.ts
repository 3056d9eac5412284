import type { StoreChange } from "../../Transport.js"
import { type Account, accountKey, type Case, change, type Found, type Hand, handKey, lifeKey } from "./records.js"

/** How long a death counts as a sign that processes die here for other reasons, too. */
const deathsMatter = 24 * 3_600_000

/** How long a message is remembered that does not come again. */
const casesMatter = 7 * 24 * 3_600_000

const maxDeaths = 32
const maxCases = 64
const maxNear = 256

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
  /** What is full, and not written yet. */
  private readonly unwritten: Array<StoreChange> = []
  private readonly held = new Map<number, Message>()
  private isAlone = false
  /** With these a process has died while some were run together. */
  private readonly near: Set<number>
  /** Those that are not alone with what is known of them are run together, some at a time. */
  isGrouped: boolean
  /** What is written says that a message is in hand that is not. */
  private isStale = false
  /** All that is not withheld or convicted is free: the deaths are explained. */
  private isReleased = false
  private isProbationOver = false
  /** The highest offset of a suspect that has come, and the lowest of all messages. */
  private highest: number
  private lowest = Infinity
  /** Whether messages are suspected. */
  isOpen: boolean
  /** How many unexplained deaths were known at the beginning. */
  private readonly known: number
  /** How many owners were found dead by this one. */
  readonly found: number
  /** The messages that were in hand alone when an owner died. */
  readonly struck: ReadonlyArray<Case>
  /** The messages that deaths without them have cleared. */
  readonly cleared: ReadonlyArray<Case>

  constructor(found: Found, readonly life: string, private readonly now: number, private readonly lives: number) {
    const { account, hands } = found
    const dead = Array.from(found.lives).filter(([life]) => life !== this.life && !account.counted.includes(life))
    for (const one of account.cases) if (now - one.last < casesMatter) this.cases.set(one.offset, one)
    const deaths = account.deaths.filter((at) => now - at < deathsMatter)
    const struck = new Set<number>()
    this.near = new Set(account.isOpen ? account.near : [])
    const cleared: Array<Case> = []
    for (const [life, { withheld }] of dead) {
      deaths.push(now)
      const hand = lastPage(hands.get(life))
      const [first] = hand?.held ?? []
      if (first !== undefined && hand!.isAlone) struck.add(this.strike(first).offset)
      else {
        for (const { offset } of hand?.held ?? []) this.near.add(offset)
        // The process has died without them.
        for (const offset of withheld) {
          const one = this.cases.get(offset)
          if (one !== undefined && !one.isConvicted && this.cases.delete(offset)) cleared.push(one)
        }
      }
    }
    this.deaths = deaths.slice(-maxDeaths)
    this.known = deaths.length
    this.isGrouped = deaths.length > lives
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
    for (const offset of [...struck, ...this.near]) this.finished.delete(offset)
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
      wasNear: former?.wasNear ?? this.near.has(offset),
      isConvicted: former?.isConvicted ?? false
    }
    this.cases.set(offset, one)
    return one
  }

  /** Whether a process has died with the message while some were run together. */
  isNear(offset: number): boolean {
    return this.near.has(offset)
  }

  /** The offsets of the messages that are not started while their probation lasts. */
  get withheld(): ReadonlyArray<number> {
    return Array.from(this.cases.values()).flatMap((one) =>
      one.strikes >= this.neededOf(one) && !one.isConvicted ? [one.offset] : []
    )
  }

  /**
   * How many processes have to die with the message alone. One more, where processes have died whose end it does not explain: some are killed here, or die
   * of something else.
   */
  neededOf({ wasNear }: Case): number {
    return this.lives - 2 + (this.known - (wasNear ? 1 : 0) > this.lives - 1 ? 1 : 0)
  }

  caseOf({ offset, timestamp }: Pick<Message, "offset" | "timestamp">): Case | undefined {
    const one = this.cases.get(offset)
    return one?.timestamp === timestamp ? one : undefined
  }

  stanceOf(message: Message): Stance {
    if (!this.isOpen && this.cases.size === 0) return "free"
    const one = this.caseOf(message)
    if (one?.isConvicted === true) return "convicted"
    if (one !== undefined && one.strikes >= this.neededOf(one)) return "withheld"
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

  /** Whether a suspect is run alone; the others are run together with some. */
  runsAlone(message: Message): boolean {
    return !this.isGrouped || this.near.has(message.offset) || this.caseOf(message) !== undefined
  }

  /** The message is run alone, as soon as the answer is written. */
  begins(message: Message): ReadonlyArray<StoreChange> {
    this.isAlone = this.held.size === 0
    return this.holds([message])
  }

  /** The messages are run together, as soon as the answer is written. */
  beginTogether(messages: ReadonlyArray<Message>): ReadonlyArray<StoreChange> {
    this.isAlone = false
    return this.holds(messages)
  }

  private holds(messages: ReadonlyArray<Message>): ReadonlyArray<StoreChange> {
    for (const message of messages) this.held.set(message.offset, message)
    this.isStale = true
    return [...this.unwritten.splice(0), this.hand]
  }

  /** How many are in hand. */
  get inHand(): number {
    return this.held.size
  }

  /** It is not in hand any more. With `isFinished` it has ended, and the process lives. */
  ends(message: Message, isFinished: boolean): void {
    this.held.delete(message.offset)
    if (!isFinished) return
    this.finished.add(message.offset)
    this.near.delete(message.offset)
    if (this.onPage.length >= pageSize) {
      this.unwritten.push(change(handKey(this.life, this.page), { held: [], isAlone: false, finished: this.onPage }))
      this.page++
      this.onPage = []
    }
    this.onPage.push(message.offset)
  }

  /** Says that nothing is in hand, if something else is written. */
  rests(): ReadonlyArray<StoreChange> {
    if (!this.isStale || this.held.size > 0) return []
    this.isStale = false
    return [...this.unwritten.splice(0), this.hand]
  }

  private get hand(): StoreChange {
    const { held, isAlone, life, onPage, page } = this
    return change(handKey(life, page), {
      held: Array.from(held.values(), ({ offset, timestamp }) => ({ offset, timestamp })),
      isAlone,
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
    if (!this.isProbationOver || one === undefined || one.strikes < this.neededOf(one)) return undefined
    this.cases.set(one.offset, { ...one, isConvicted: true })
    // The deaths are explained, and with them what made the others suspects.
    this.deaths = []
    this.isReleased = true
    return change(accountKey, this.account)
  }

  /** The others are run together from now on, some at a time. */
  group(): void {
    this.isGrouped = true
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
    this.held.clear()
    this.isStale = false
    this.unwritten.length = 0
    this.near.clear()
    return [
      change(accountKey, this.account),
      change(lifeKey(this.life), { since: this.now, withheld: [] }),
      ...this.hands.map((key) => change(key, null))
    ]
  }

  /** The partition is given up in order. Answers what is to be written. */
  closed(): ReadonlyArray<StoreChange> {
    if (!this.isOpen) return [change(lifeKey(this.life), null)]
    this.held.clear()
    return [
      ...this.rests(),
      change(accountKey, this.account),
      change(lifeKey(this.life), null)
    ]
  }

  private get hands(): ReadonlyArray<string> {
    const own = Array.from({ length: this.page + 1 }, (_, page) => handKey(this.life, page))
    return [...this.oldHands, ...own]
  }

  private get account(): Account {
    const { counted, deaths, highest, isOpen, near } = this
    return {
      cases: Array.from(this.cases.values()).slice(-maxCases),
      deaths,
      counted,
      isOpen,
      near: Array.from(near).slice(0, maxNear),
      upTo: isOpen ? highest : -1
    }
  }
}

/** The pages before it are full, and may still say what was in hand when they were. */
const lastPage = (pages: ReadonlyArray<readonly [page: number, hand: Hand]> | undefined): Hand | undefined =>
  pages?.reduce((last, one) => one[0] > last[0] ? one : last)[1]
