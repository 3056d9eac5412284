import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Random from "effect/Random"
import { GivenUpByHand, type PublishError } from "../../EventBusError.js"
import type { Assignment } from "../../Transport.js"
import { describeCause } from "../describeCause.js"
import type { Flight, Released } from "../flight.js"
import * as Logging from "../logging.js"
import { Automatic } from "./automatic.js"
import * as Fingerprint from "./fingerprint.js"
import * as Letter from "./letter.js"
import { Parked } from "./parked.js"
import * as Reading from "./reading.js"
import { Releases } from "./release.js"
import type { Host, Owner, Settings } from "./settings.js"
import { Writer } from "./writer.js"

/** How often it is said that aggregates are full, in milliseconds. */
const sayEvery = 60_000

/** How long closing waits for what is being written. */
const patience = Duration.seconds(2)

/** A letter that is about to be written. */
interface Draft {
  readonly key: string
  readonly value: Uint8Array
  readonly known: { readonly offset: number; readonly owner: string; readonly timestamp: number; readonly size: number }
  readonly parkedAt: number
}

/**
 * What is parked of one assigned partition.
 *
 * @internal
 */
export class ParkedLane implements Owner {
  readonly parked = new Map<string, Parked>()
  /** Which aggregates are parked is known: the lane may take messages. */
  isReady = false
  /** Nothing is begun any more. */
  isClosing = false
  readonly partition: number
  readonly writer: Writer
  private readonly releases: Releases
  private readonly automatic: Automatic | undefined
  owner = ""
  /** Letters up to this revision were there when the partition was assigned: a former owner may have begun with them. */
  private foundUpTo = 0
  /** The followers whose letters are being written, or wait for it. */
  private readonly writing = new Set<Flight>()
  /** The names of former owners' letters without which messages would be lost that are settled. */
  private readonly kept = new Set<string>()
  private saidFull: number | undefined
  /**
   * Aggregates that were parked when the partition was assigned and are not any more. Their messages may come again that a former owner has not
   * settled: they were handled as letters since.
   */
  private readonly passed = new Map<string, Parked>()

  constructor(
    readonly host: Host,
    assignment: Assignment,
    readonly settings: Settings,
    private readonly onClosed: () => void
  ) {
    const { fork, schedule, store, timeout, writing } = settings
    this.partition = assignment.partition
    this.writer = new Writer({ store, partition: this.partition, timeout, schedule, lasting: writing, fork })
    this.releases = new Releases(this)
    const { release } = settings.policy
    this.automatic = release && new Automatic(this, release, (due, by) => this.releases.automatically(due, by))
    fork(this.begin(assignment.epoch))
  }

  /** Reads what former owners have parked. Until then the lane takes nothing. */
  private begin(epoch: number): Effect.Effect<void> {
    const { reading, schedule, store, timeout } = this.settings
    const options = { schedule, while: () => !this.isClosing }
    return Effect.gen(this, function*() {
      const random = yield* Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER)
      this.owner = `${epoch}-${random.toString(36)}`
      const mark = Effect.suspend(() => store.write(this.partition, [Reading.markOf(this.owner)], { timeout }))
      const contents = Reading.read(store, this.partition, this.owner)
      this.foundUpTo = yield* reading.retry(Effect.flatMap(mark, (results) => results[0]!), options)
      const { commands, kept, parked, strays, trials } = yield* reading.retry(contents, options)
      if (this.isClosing) return
      for (const [key, one] of parked) {
        one.wasFound = true
        this.parked.set(key, one)
      }
      for (const key of kept) this.kept.add(key)
      for (const change of strays) this.writer.push({ change, done: () => {} })
      this.isReady = true
      this.releases.begin(commands, trials)
      if (this.automatic !== undefined) this.settings.fork(this.automatic.run)
      this.host.goOn()
    }).pipe(
      // It was closed meanwhile.
      Effect.ignore,
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.failCause(cause)
          : Logging.error(
            `Nothing of partition ${this.partition} begins, because its store died: ${describeCause(cause)}`,
            { group: this.host.subscriber.group, partition: this.partition }
          )
      )
    )
  }

  // ----- messages that come

  /** Whether a message is parked, or was. */
  takes({ key, message: { offset, timestamp } }: Flight): boolean {
    if (key === undefined) return false
    if (this.parked.has(key)) return true
    const passed = this.passed.size === 0 ? undefined : this.passed.get(key)
    if (passed !== undefined) {
      if (passed.knows(offset, timestamp)) return true
      this.passed.delete(key)
    }
    const { book, wanted } = this.settings
    if (wanted.size === 0 || !wanted.has(key)) return false
    // What is in hand is parked first, with all behind it.
    const mailbox = book.get(key)
    if (mailbox !== undefined && book.handOf(mailbox) !== undefined) return false
    this.gather(this.open(key))
    return true
  }

  /** A message of a parked aggregate. */
  add(flight: Flight): void {
    const one = this.parked.get(flight.key!) ?? this.passed.get(flight.key!)!
    flight.park()
    if (one.knows(flight.offset, flight.message.timestamp)) return this.relied(one, flight)
    if (one.blocked === undefined && one.count + one.inWriter >= this.settings.policy.maxPerAggregate) {
      one.blocked = "full"
      this.sayFull(one)
    }
    if (one.blocked === undefined) return this.write(one, flight)
    one.waiting.push(flight)
    this.host.aside(1)
  }

  private write(one: Parked, flight: Flight): void {
    const draft = this.draft(one, flight, [])
    this.writing.add(flight)
    one.inWriter++
    this.writer.push({
      change: draft,
      flight,
      done: (result) => {
        this.writing.delete(flight)
        if (Either.isRight(result)) this.put(one, draft, result.right)
        else this.unwritable(one, flight, result.left)
        one.written()
        // A transport that throws when the message is finished does not keep the aggregate.
        if (Either.isRight(result)) this.confirmed(flight)
      }
    })
  }

  /** The message has a letter, or was finished. It is noted that a former owner's letter counts before the message is settled because of it. */
  private relied(one: Parked, flight: Flight): void {
    const letter = one.get(flight.offset)
    const key = letter && letter.owner !== this.owner
      ? Letter.keyOf(one.key, letter.offset, letter.owner)
      : undefined
    if (key === undefined || this.kept.has(key)) return this.confirmed(flight)
    this.writing.add(flight)
    one.inWriter++
    this.writer.push({
      change: { key: Letter.keptOf(key), value: new Uint8Array([1]) },
      flight,
      done: () => {
        this.writing.delete(flight)
        this.kept.add(key)
        one.written()
        this.confirmed(flight)
      }
    })
  }

  /** The letter is in the store. If the message is not ours any more it comes to the next owner. */
  private confirmed(flight: Flight): void {
    if (flight.state === "ended") return
    if (this.host.isOwned) flight.end("parked")
    else flight.giveBack()
  }

  private draft(one: Parked, flight: Flight, failures: ReadonlyArray<Letter.Failed>): Draft {
    const { message, offset } = flight
    const former = one.get(offset)
    const owner = former?.owner ?? this.owner
    const parkedAt = this.now
    const writer = former === undefined ? owner : Letter.again
    const value = Letter.encode({ message, parkedAt, writer, failures, cause: one.cause })
    const known = { offset, owner, timestamp: message.timestamp, size: value.length }
    return { key: Letter.keyOf(one.key, offset, owner), value, known, parkedAt }
  }

  private put(one: Parked, { known, parkedAt }: Draft, revision: number): void {
    one.put({ ...known, revision })
    one.last = Math.max(one.last, parkedAt)
  }

  get now(): number {
    return this.host.subscriber.time()
  }

  // ----- what waits

  /** The store refuses a letter. What is behind it waits, too: it would be the aggregate's first letter. */
  private unwritable(one: Parked, flight: Flight, error: PublishError): void {
    this.stopBehind(one, [flight])
    const { fork, holdInterval } = this.settings
    const again = Effect.sync(() => {
      if (one.blocked === "unwritable") this.unblock(one)
    })
    fork(Effect.zipRight(this.sayUnwritable(one, flight, error), Effect.delay(again, holdInterval)))
  }

  private stopBehind(one: Parked, first: ReadonlyArray<Flight>): void {
    one.blocked = "unwritable"
    const behind = this.writer.takeOut(({ flight }) => flight?.key === one.key && this.writing.has(flight!))
    one.inWriter -= behind.length
    for (const { flight } of behind) this.writing.delete(flight!)
    const flights = [...first, ...behind.map(({ flight }) => flight!)].filter(({ state }) => state !== "ended")
    one.waiting = [...flights, ...one.waiting]
    this.host.aside(flights.length)
  }

  private sayUnwritable(one: Parked, flight: Flight, { message }: PublishError): Effect.Effect<void> {
    const { offset, partition, topic } = flight
    return Logging.warning(
      flight.letter === undefined
        ? `The letter of ${topic}[${partition}]@${offset} can't be written, so its aggregate waits, and it is tried again: ${message}`
        : `The letter of ${topic}[${partition}]@${offset} stays without its newest failure, which can't be written: ${message}`,
      { ...flight.position, group: flight.group, aggregateId: one.key }
    )
  }

  /** Its messages that waited go on. */
  unblock(one: Parked): void {
    one.blocked = undefined
    const { waiting } = one
    one.waiting = []
    this.host.aside(-waiting.length)
    for (const flight of waiting) {
      if (flight.state === "ended") continue
      if (this.isClosed) flight.giveBack()
      else this.add(flight)
    }
  }

  private sayFull(one: Parked): void {
    if (this.saidFull !== undefined && this.now - this.saidFull < sayEvery) return
    this.saidFull = this.now
    const { fork, policy: { maxPerAggregate } } = this.settings
    fork(Logging.warning(
      `Aggregate ${one.key} has ${maxPerAggregate} letters (maxPerAggregate), so its messages are held until letters are released or discarded`,
      { group: this.host.subscriber.group, partition: this.partition, aggregateId: one.key }
    ))
  }

  // ----- parking

  /**
   * A message in its slot has failed: its aggregate is parked from now on. It answers when the letter is written, and can be interrupted. `false`: the
   * message comes to the next owner.
   */
  park(flight: Flight, cause: Cause.Cause<unknown>): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      if (this.isClosed) return Effect.succeed(false)
      const { letter } = flight
      const fingerprint = Fingerprint.ofCause(cause)
      const failed: Letter.Failed = {
        at: this.now,
        ...fingerprint,
        cause: Fingerprint.textOf(cause),
        attempts: flight.attempt,
        restarts: flight.restarts,
        released: letter?.by
      }
      const isNew = !this.parked.has(flight.key!)
      const one = this.open(flight.key!)
      one.cause = Fingerprint.idOf(fingerprint)
      one.text = failed.cause
      const draft = this.draft(one, flight, Letter.withFailure(letter?.failures ?? [], failed))
      const written = this.startWriting(one, draft)
      if (isNew) this.gather(one)
      this.settings.tell({
        _tag: "Parked",
        aggregate: one.key,
        partition: this.partition,
        cause: one.cause,
        by: undefined
      })
      one.persisting++
      return this.persist(one, flight, draft, written).pipe(
        Effect.ensuring(Effect.sync(() => one.persisting--)),
        Effect.map(() => this.host.isOwned)
      )
    })
  }

  /** Writes the letter of a message that has failed, now and not when the answer is run. */
  private startWriting(one: Parked, draft: Draft): Effect.Effect<Either.Either<number, PublishError>> {
    let result: Either.Either<number, PublishError> | undefined
    let tell: (() => void) | undefined
    one.inWriter++
    const job = {
      change: draft,
      done: (answer: Either.Either<number, PublishError>) => {
        result = answer
        if (Either.isRight(answer)) {
          this.put(one, draft, answer.right)
          one.failedAt = Math.max(one.failedAt, answer.right)
          this.automatic?.changed()
        } else this.stopBehind(one, [])
        one.written()
        tell?.()
      }
    }
    this.writer.push(job)
    return Effect.async((resume) => {
      if (result !== undefined) return resume(Effect.succeed(result))
      // Interrupted, it is written all the same: the letters of its followers are behind it, and the next owner takes what is
      // before the first letter of an aggregate for finished.
      tell = () => resume(Effect.succeed(result!))
    })
  }

  private persist(
    one: Parked,
    flight: Flight,
    draft: Draft,
    written: Effect.Effect<Either.Either<number, PublishError>>
  ): Effect.Effect<void> {
    return Effect.flatMap(written, (result) => {
      if (Either.isRight(result)) {
        return Effect.sync(() => {
          if (one.blocked === "unwritable") this.unblock(one)
        })
      }
      if (flight.letter !== undefined) return this.stays(one, flight, flight.letter, result.left)
      const again = Effect.suspend(() => this.persist(one, flight, draft, this.startWriting(one, draft)))
      return Effect.zipRight(
        this.sayUnwritable(one, flight, result.left),
        Effect.flatMap(Effect.sleep(this.settings.holdInterval), () => again)
      )
    })
  }

  /** A released letter has failed again, and the store refuses it with one failure more: it stays without that, and nobody waits for it. */
  private stays(one: Parked, flight: Flight, { failures }: Released, error: PublishError): Effect.Effect<void> {
    return this.sayUnwritable(one, flight, error).pipe(
      Effect.zipRight(Effect.suspend(() => this.startWriting(one, this.draft(one, flight, failures)))),
      Effect.map(() => {
        if (one.blocked === "unwritable") this.unblock(one)
      })
    )
  }

  /** From now on the aggregate is parked. */
  private open(key: string): Parked {
    const found = this.parked.get(key)
    if (found !== undefined) return found
    const one = new Parked(key)
    one.since = this.now
    this.parked.set(key, one)
    this.settings.wanted.delete(key)
    return one
  }

  /** Parks the messages that wait for the aggregate's slot. What they make room for may come at once, and goes behind them. */
  private gather(one: Parked): void {
    one.blocked = "gathering"
    const flights = this.settings.book.takeOutOf(
      one.key,
      (flight) => flight.carrier === this.host && flight.letter === undefined
    )
    for (const flight of flights) flight.park()
    one.waiting = [...Array.from(flights).sort((a, b) => a.offset - b.offset), ...one.waiting]
    this.host.aside(flights.length)
    this.unblock(one)
  }

  /** Somebody wants the aggregate to be parked. */
  parkByHand(key: string, { who, why }: Letter.By): void {
    if (!this.isReady || this.isClosing || this.parked.has(key)) return
    const { book, policy } = this.settings
    const mailbox = book.get(key)
    const inHand = mailbox && book.handOf(mailbox)
    if (inHand !== undefined && inHand.state !== "ended") {
      if (inHand.carrier !== this.host || inHand.verdict !== undefined || inHand.state === "dead-lettering") return
      inHand.verdict = { policy, defect: new GivenUpByHand({ reason: `${who}: ${why}` }) }
      mailbox!.slot.again(inHand)
      return
    }
    if (book.isWaiting(key, (flight) => flight.carrier === this.host)) this.gather(this.open(key))
  }

  /** A flight of this lane has ended. */
  ended(flight: Flight): void {
    if (flight.letter !== undefined) return flight.letter.ended(flight)
    const { key } = flight
    const { wanted } = this.settings
    if (wanted.size === 0 || key === undefined) return
    const by = wanted.get(key)
    if (by !== undefined && flight.outcome !== "parked") this.parkByHand(key, by)
  }

  // ----- letters

  /** Whether a former owner may have handled the letter. */
  mayBeDuplicate(revision: number): boolean {
    return revision <= this.foundUpTo
  }

  /** Takes a letter out of the store. */
  remove(one: Parked, offset: number): void {
    const known = one.get(offset)
    if (known === undefined) return
    one.remove(offset)
    one.inWriter++
    const key = Letter.keyOf(one.key, offset, known.owner)
    this.writer.push({
      change: { key, value: null },
      done: () => {
        one.written()
        const { maxPerAggregate } = this.settings.policy
        if (one.blocked === "full" && one.count + one.inWriter < maxPerAggregate) this.unblock(one)
      }
    })
    if (this.kept.delete(key)) this.writer.push({ change: { key: Letter.keptOf(key), value: null }, done: () => {} })
  }

  /** It has no letters any more, and none is being written: its messages go to its mailbox again. */
  goesNormal(one: Parked): void {
    this.parked.delete(one.key)
    if (one.wasFound) this.passed.set(one.key, one)
    const { waiting } = one
    one.waiting = []
    one.blocked = undefined
    this.host.aside(-waiting.length)
    const flights = waiting.filter(({ state }) => state !== "ended")
    for (const flight of flights) flight.unpark()
    this.settings.book.handOver(one.key, flights)
  }

  get release(): Releases {
    return this.releases
  }

  /** The aggregates whose messages wait. */
  get blocked(): ReadonlyArray<Parked> {
    return Array.from(this.parked.values()).filter(({ blocked }) => blocked === "full" || blocked === "unwritable")
  }

  // ----- closing

  private isClosed = false

  /** Nothing of it is begun any more. */
  stop(): void {
    this.isClosing = true
    this.releases.stop()
  }

  /** What is being written is waited for, but not for long. What is not written then comes to the next owner. */
  close(deadline: Duration.Duration): Effect.Effect<void> {
    return Effect.zipRight(
      this.writer.settle(Duration.min(deadline, patience)),
      Effect.sync(() => {
        this.isClosed = true
        this.writer.close()
        for (const one of this.parked.values()) this.unblock(one)
        for (const flight of Array.from(this.writing)) flight.giveBack()
        this.writing.clear()
        this.onClosed()
      })
    )
  }
}
