import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as RateLimit from "../../RateLimit.js"
import { describeCause } from "../describeCause.js"
import type { Flight } from "../flight.js"
import * as Logging from "../logging.js"
import { Waiter } from "../quota.js"
import * as Command from "./command.js"
import type * as Letter from "./letter.js"
import type { Known, Parked } from "./parked.js"
import type { Owner } from "./settings.js"
import { Shelves } from "./shelves.js"
import * as Trials from "./trials.js"

/** A letter that was read. Undefined: it is of a newer version. */
type Readable = readonly [Known, Letter.Letter | undefined]

/** How many aggregates of a partition are released at the same time. */
const concurrency = 16

/**
 * Releases and discards the letters of one partition, as commands say.
 *
 * @internal
 */
export class Releases {
  private readonly running = new Set<string>()
  /** Letters that wait for room. */
  private readonly placing = new Set<() => void>()

  private readonly shelves: Shelves
  /** How many orders are carried out now. */
  private orders = 0
  private readonly turns = new Map<string, { readonly semaphore: Effect.Semaphore; parts: number }>()
  private readonly trials: Trials.Trials
  /** Letters that were handled alone, of aggregates that are not released yet. */
  private readonly tried = new WeakMap<Parked, number>()

  constructor(private readonly lane: Owner) {
    this.shelves = new Shelves(lane)
    this.trials = new Trials.Trials(lane)
  }

  /** Goes on with what former owners have begun. */
  begin(commands: ReadonlyArray<Command.Command>, trials: Trials.Record | undefined): void {
    this.trials.found(trials)
    const releases = commands.filter(({ does }) => does === "release")
    for (const command of commands) if (command.does !== "release") this.start(command)
    if (releases.length === 0) return
    for (const { id } of releases) this.running.add(id)
    this.lane.settings.fork(this.carryOut(this.resume(releases)))
  }

  /** Their owners may have died of a letter. So the first letter of each aggregate is tried alone, before anything else of them is begun. */
  private resume(commands: ReadonlyArray<Command.Command>): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const tried: Array<readonly [Command.Command, ReadonlyArray<Parked>]> = []
      for (const command of commands) {
        const all = Array.from(this.lane.parked.values()).filter((one) => Command.concerns(command, one))
        const passed = yield* atRate(command, (take) => this.tryAll(all, command, take)).pipe(
          // The others go on.
          Effect.catchAllCause((cause) => Effect.as(died(cause), []))
        )
        tried.push([command, passed])
      }
      yield* this.trials.settled
      yield* Effect.forEach(tried, ([command, passed]) => this.inTurn(command, this.run(command, passed)), {
        concurrency: "unbounded",
        discard: true
      })
    }).pipe(
      Effect.catchAllCause(died),
      Effect.ensuring(Effect.sync(() => {
        for (const { id } of commands) this.running.delete(id)
      }))
    )
  }

  /** Tries the first letter of each aggregate alone, and answers those that may go on. */
  private tryAll(
    aggregates: ReadonlyArray<Parked>,
    order: Command.Order,
    take: Effect.Effect<void>
  ): Effect.Effect<ReadonlyArray<Parked>> {
    return Effect.filter(
      aggregates,
      (one, i) => this.trials.alone(this.tryOne(one, order, take, behind(aggregates, i)))
    )
  }

  private tryOne(
    one: Parked,
    order: Command.Order,
    take: Effect.Effect<void>,
    next: Iterable<Parked>
  ): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      // Somebody releases it by hand in the meantime: that is no trial.
      if (one.releasedBy !== undefined) return Effect.succeed(true)
      one.releasedBy = order.by
      return Effect.ensuring(this.tryFirst(one, order, take, next), Effect.sync(() => one.freed()))
    })
  }

  private tryFirst(
    one: Parked,
    order: Command.Order,
    take: Effect.Effect<void>,
    next: Iterable<Parked>
  ): Effect.Effect<boolean> {
    return Effect.gen(this, function*() {
      while (this.goesOn(one) && one.count > 0) {
        const [first] = yield* this.read(one, next)
        if (first === undefined) continue
        const [known, letter] = first
        if (letter === undefined) return false
        yield* take
        if (!this.goesOn(one) || !(yield* this.trials.begin(one, known, letter, order.by))) return false
        if (!this.goesOn(one)) {
          this.trials.ended(one)
          return false
        }
        const outcome = yield* this.handle(known, letter, order.by)
        this.trials.ended(one)
        if (outcome === "parked" || outcome === "unfinished") return false
        this.tried.set(one, 1)
        this.lane.settings.counters.released++
        this.lane.remove(one, known.offset)
        return true
      }
      return this.goesOn(one)
    })
  }

  /** The lane closes: no letter is begun any more. */
  stop(): void {
    this.trials.stop()
    for (const place of Array.from(this.placing)) place()
  }

  /** Does what a command says, and forgets it then. */
  start(command: Command.Command): void {
    if (this.running.has(command.id)) return
    this.running.add(command.id)
    this.lane.settings.fork(
      Effect.ensuring(
        this.carryOut(this.inTurn(command, this.run(command))),
        Effect.sync(() => this.running.delete(command.id))
      )
    )
  }

  /** The parts of one command are done one after the other, so that its rate and its concurrency are those of one. */
  private inTurn(command: Command.Command, run: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const whole = Command.wholeOf(command)
      const turn = this.turns.get(whole) ?? { semaphore: Effect.unsafeMakeSemaphore(1), parts: 0 }
      this.turns.set(whole, turn)
      turn.parts++
      return Effect.ensuring(
        turn.semaphore.withPermits(1)(run),
        Effect.sync(() => {
          if (--turn.parts === 0) this.turns.delete(whole)
        })
      )
    })
  }

  /** The schedule says so. The next owner has a schedule of its own, so only that it was done is written down. */
  automatically(aggregates: ReadonlyArray<Parked>, by: Letter.By): void {
    if (aggregates.length === 0) return
    const order: Command.Order = { id: "", does: "release", by, at: 0 }
    const work = Effect.gen(this, function*() {
      const suspects = aggregates.filter((one) => this.trials.isSuspect(one))
      const others = aggregates.filter((one) => !this.trials.isSuspect(one))
      const passed = yield* this.tryAll(suspects, order, Effect.void)
      if (suspects.length > 0) yield* this.trials.settled
      const rest = [...passed, ...others]
      yield* Effect.forEach(
        rest,
        (one, i) => one.releasedBy === undefined ? this.endOne(one, order, Effect.void, behind(rest, i)) : Effect.void,
        { concurrency, discard: true }
      )
    })
    this.lane.settings.fork(this.trials.automatically(this.carryOut(work)))
  }

  private carryOut(work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.orders++
      return Effect.ensuring(
        work,
        Effect.sync(() => {
          if (--this.orders === 0) this.shelves.clear()
        })
      )
    })
  }

  /** Does what a command says with all that it is about, or with those of them. */
  private run(command: Command.Command, among?: ReadonlyArray<Parked>): Effect.Effect<void> {
    const { lane } = this
    const aggregates = (among ?? Array.from(lane.parked.values())).filter((one) => Command.concerns(command, one))
    const all = atRate(command, (take) =>
      Effect.forEach(
        aggregates,
        // It may have failed once more meanwhile.
        (one, i) =>
          Effect.suspend(() =>
            Command.concerns(command, one) ? this.endOne(one, command, take, behind(aggregates, i)) : Effect.void
          ),
        { concurrency, discard: true }
      ))
    return Effect.zipRight(
      all,
      Effect.sync(() => {
        // What is not done is done by the next owner.
        if (!lane.isClosing && lane.host.isOwned) {
          lane.writer.push({ change: { key: Command.keyOf(command), value: null }, done: () => {} })
        }
      })
    ).pipe(
      Effect.catchAllCause(died)
    )
  }

  /** Releases or discards the letters of an aggregate, until it has none or one of them fails. */
  private endOne(
    one: Parked,
    order: Command.Order,
    take: Effect.Effect<void>,
    next: Iterable<Parked>
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      // Somebody else does something with it. An endless wait is ended with the lane, and the order then belongs to the next owner.
      if (one.releasedBy !== undefined) {
        return Effect.zipRight(one.free.wait, Effect.suspend(() => this.endOne(one, order, take, next)))
      }
      if (!this.goesOn(one)) return Effect.void
      one.releasedBy = order.by
      const done = order.does === "release" ? this.releaseAll(one, order, take, next) : this.discardAll(one, order)
      return Effect.ensuring(
        done,
        Effect.sync(() => {
          if (one.blocked === "ending") this.lane.unblock(one)
          one.freed()
        })
      )
    })
  }

  private goesOn(one: Parked): boolean {
    return !this.lane.isClosing && this.lane.parked.get(one.key) === one
  }

  private releaseAll(
    one: Parked,
    order: Command.Order,
    take: Effect.Effect<void>,
    next: Iterable<Parked>
  ): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      let count = this.tried.get(one) ?? 0
      this.tried.delete(one)
      while (this.goesOn(one)) {
        if (one.count === 0) {
          if (one.isStuck || this.isNormal(one, order, count)) return
          yield* one.quiet.wait
          continue
        }
        for (const [known, letter] of yield* this.read(one, next)) {
          if (letter === undefined) return
          yield* take
          yield* this.lane.writer.room.wait
          if (!this.goesOn(one)) return
          const outcome = yield* this.handle(known, letter, order.by)
          if (outcome === "parked" || outcome === "unfinished") return
          count++
          this.lane.settings.counters.released++
          this.lane.remove(one, known.offset)
        }
      }
    })
  }

  private discardAll(one: Parked, order: Command.Order): Effect.Effect<void> {
    const { partition, settings } = this.lane
    const { by } = order
    return Effect.gen(this, function*() {
      let count = 0
      const offsets = order.offset === undefined
        ? one.offsets.slice()
        : one.offsets.filter((one) => one === order.offset)
      for (const offset of offsets) {
        yield* this.lane.writer.room.wait
        if (!this.goesOn(one)) return
        yield* settings.discarded({ aggregate: one.key, partition, offset, by })
        count++
        this.lane.remove(one, offset)
      }
      // What came meanwhile stays parked.
      while (one.count === 0 && !one.isStuck && this.goesOn(one) && !this.isNormal(one, order, count)) {
        yield* one.quiet.wait
      }
      if (one.count > 0) this.tell(one, order, count)
    })
  }

  /** Goes back to normal if nothing is being written. Until then what comes waits: it need not become a letter. */
  private isNormal(one: Parked, order: Command.Order, count: number): boolean {
    if (one.inWriter > 0) {
      one.blocked ??= "ending"
      return false
    }
    this.lane.goesNormal(one)
    this.tell(one, order, count)
    return true
  }

  private tell(one: Parked, { by, does }: Command.Order, letters: number): void {
    const { partition, settings } = this.lane
    const _tag = does === "release" ? "Released" : "Discarded"
    settings.tell({ _tag, aggregate: one.key, partition, letters, by })
  }

  /** The first letters of an aggregate. Undefined: it can't be read, and that was said. */
  private read(
    one: Parked,
    next: Iterable<Parked>
  ): Effect.Effect<ReadonlyArray<Readable>> {
    return Effect.flatMap(this.shelves.letters(one, next), (found) =>
      Effect.map(
        Effect.forEach(found, ([known, { isThere, letter }]): Effect.Effect<ReadonlyArray<Readable>> =>
          letter !== undefined
            ? Effect.succeed([[known, letter]])
            : isThere
            ? Effect.as(this.say(one, known, "is of a newer version, so its aggregate stays parked"), [
              [known, undefined]
            ])
            // A former owner had handled it, and its removal came late.
            : Effect.map(this.say(one, known, "is not in the store any more: it was taken out"), () => {
              if (one.get(known.offset)?.revision === known.revision) {
                one.remove(known.offset)
              }
              return []
            })),
        (lists) =>
          lists.flat()
      ))
  }

  private say(one: Parked, { offset }: Known, what: string): Effect.Effect<void> {
    return Logging.warning(`The letter of offset ${offset} in partition ${this.lane.partition} ${what}`, {
      partition: this.lane.partition,
      offset,
      aggregateId: one.key
    })
  }

  /** Runs a letter as the message that it was, and answers how that ended. */
  private handle(known: Known, letter: Letter.Letter, by: Letter.By): Effect.Effect<Flight["outcome"]> {
    const { host, settings: { book } } = this.lane
    return Effect.async<Flight["outcome"]>((resume) => {
      let flight: Flight | undefined
      let isPlaced = false
      // It came as one that may have been handled before, or a former owner may have begun with the letter.
      const maybeDuplicate = letter.message.maybeDuplicate || this.lane.mayBeDuplicate(known.revision)
      const message = { ...letter.message, maybeDuplicate }
      const forget = () => {
        this.placing.delete(place)
        if (isPlaced) return
        book.cancel(forMailbox)
        host.forgetLetter(flight, forBytes)
      }
      const place = () => {
        if (isPlaced) return
        if (this.lane.isClosing) {
          forget()
          return resume(Effect.succeed("unfinished"))
        }
        if (flight === undefined) {
          flight = host.flightOfLetter(message, forBytes)
          if (flight === undefined) return
          flight.letter = {
            failures: letter.failures,
            by,
            ended: ({ outcome }) => resume(Effect.succeed(outcome))
          }
        }
        if (!book.offer(flight, forMailbox)) return
        isPlaced = true
        this.placing.delete(place)
        flight.taken()
      }
      const forBytes = new Waiter(place)
      const forMailbox = new Waiter(place)
      this.placing.add(place)
      place()
      return Effect.sync(forget)
    })
  }
}

/** Those behind an index: who is released next. */
const behind = <A>(all: ReadonlyArray<A>, index: number): Iterable<A> => ({
  *[Symbol.iterator]() {
    for (let i = index + 1; i < all.length; i++) yield all[i]!
  }
})

/** Does something at the rate of an order. */
const atRate = <A>(
  { rate }: Command.Order,
  work: (take: Effect.Effect<void>) => Effect.Effect<A>
): Effect.Effect<A> =>
  rate === undefined
    ? work(Effect.void)
    : Effect.scoped(Effect.flatMap(RateLimit.make({ perSecond: rate }), (limit) => work(limit.take()))).pipe(
      Effect.orDie
    )

const died = (cause: Cause.Cause<never>): Effect.Effect<void> =>
  Logging.error(`A release of parked messages died: ${describeCause(cause)}`)
