import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { KilledProcess, type PublishError, type ReadFailed } from "../../EventBusError.js"
import type { Store, StoreChange } from "../../Transport.js"
import { describeCause } from "../describeCause.js"
import type { Flight, Sentry as FlightSentry, Subscriber } from "../flight.js"
import type { Lasting } from "../lasting.js"
import * as Logging from "../logging.js"
import type { Alone, Queue, Turn } from "./alone.js"
import * as Records from "./records.js"
import { Suspects } from "./suspects.js"

/** How long strangers go on before the first suspect is started, which may end the process: in milliseconds. */
const strangersFirst = 1_000

/**
 * Then suspects begin in no order, so many, or for so long: some get on in each life, wherever the message stands that ends it. After that the oldest come
 * first, which are the most likely ones to have been in hand.
 */
const anyFirst = 100
const anyFirstFor = 2_000

/** A handler that runs for so long keeps no others waiting: in milliseconds. */
const hangsAfter = 60_000

/** How many are run together, once that is what is done. */
const together = 64

/** All suspects have ended, and for so long none has come. */
const quiet = 10_000

/** How long the store is waited for. Then the partition goes on without it: a store must not stop what it only protects. */
const patience = "30 seconds"
/** And then, until it answers again: each suspect would wait as long. */
const briefly = "1 second"
const writeTimeout = Duration.seconds(5)
const closeTimeout = "2 seconds"

const again = Schedule.exponential("100 millis").pipe(Schedule.union(Schedule.spaced("2 seconds")), Schedule.jittered)

/** @internal */
export interface Settings {
  readonly store: Store
  readonly subscriber: Subscriber
  readonly lives: number
  /** In milliseconds. */
  readonly probation: number
  readonly alone: number
  readonly turns: Alone
  readonly lasting: Lasting
  readonly newLife: () => string
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/**
 * What keeps a partition from a message that ends the process. It notes in the store who has the partition. Where the owner before has
 * ended without closing it, it lets suspects begin one at a time, and notes each before it begins.
 *
 * @internal
 */
export class Sentry implements FlightSentry, Queue {
  /** No message is taken before the store was read. */
  isOpening = true
  private suspects: Suspects | undefined
  private readonly life: string
  /** Each life has another order. */
  private seed = 0x811c9dc5
  private openedAt = 0
  /** When the first suspect was run alone. */
  private firstAt: number | undefined
  /** How many were. */
  private count = 0
  /** Those that have come and not ended. */
  private present = 0
  private lastAt = 0
  /** Strangers had their time, and what was inherited is written. */
  private isReady = false
  /** Who has the turn, and since when. */
  private readonly turns = new Map<Flight, { readonly turn: Turn; readonly since: number }>()
  /** How many wait for their turn, or have it. */
  private readonly asking = new Set<Flight>()
  /** Those that wait to be run together, those that are (and since when), and whether that is being written. */
  private readonly joining = new Map<Flight, () => void>()
  private readonly joined = new Map<Flight, number>()
  private isJoining = false
  private readonly writer = Effect.unsafeMakeSemaphore(1)
  /** The store did not answer when something was written last. */
  private isAway = false
  private readonly withheld = new Map<Flight, Turn>()
  private readonly fiber: Fiber.RuntimeFiber<void>

  constructor(
    private readonly place: { readonly topic: string; readonly partition: number },
    private readonly settings: Settings,
    private readonly onOpened: () => void
  ) {
    this.life = settings.newLife()
    for (const char of this.life) this.seed = Math.imul(this.seed ^ char.charCodeAt(0), 0x01000193)
    this.fiber = settings.fork(Effect.zipRight(this.open, Effect.suspend(() => this.watch)))
  }

  // ----- opening

  private get open(): Effect.Effect<void> {
    return Effect.timeoutOption(this.insisting(this.read), patience).pipe(
      Effect.catchAllCause((cause) => Effect.as(this.warn(describeCause(cause)), Option.none())),
      Effect.flatMap((suspects) => {
        this.suspects = Option.getOrUndefined(suspects)
        return this.suspects === undefined
          ? this.warn("the store does not answer, so the partition goes on without protection against poison")
          : this.sayWhatWasFound(this.suspects)
      }),
      Effect.zipRight(Clock.currentTimeMillis),
      Effect.map((now) => {
        this.openedAt = this.lastAt = now
        this.isOpening = false
        this.onOpened()
      })
    )
  }

  private readonly read: Effect.Effect<Suspects, PublishError | ReadFailed> = Effect.suspend(() => {
    const entries = new Map<string, Uint8Array>()
    const reading = Stream.runForEach(
      this.settings.store.read(this.place.partition),
      ({ key, value }) =>
        Effect.sync(() => {
          if (value === null) entries.delete(key)
          else entries.set(key, value)
        })
    )
    return Effect.zipRight(reading, Clock.currentTimeMillis).pipe(
      Effect.map((now) => new Suspects(Records.found(entries), this.life, now, this.settings.lives)),
      Effect.tap((suspects) => this.written(suspects.opened))
    )
  })

  private sayWhatWasFound(suspects: Suspects): Effect.Effect<void> {
    const { cleared, found, isGrouped, struck, withheld } = suspects
    if (found === 0) return Effect.void
    for (const { offset } of struck) this.tell("struck", offset)
    for (const { offset } of cleared) this.tell("cleared", offset)
    const parts = [
      `its last owner ended without closing it. What it may have had in hand is run ${
        isGrouped ? `at most ${together} at once` : "one at a time"
      }`,
      ...struck.map((one) =>
        `${one.offset} was in hand alone when a process died (${one.strikes} of ${suspects.neededOf(one)} times)`
      ),
      ...withheld.map((offset) =>
        `${offset} is not started, and is given up if the process lives for ${
          this.settings.probation / 1_000
        } s without it`
      ),
      ...cleared.map(({ offset }) => `${offset} is not suspected any more, because the process died without it`)
    ]
    return this.warn(parts.join("; "))
  }

  // ----- messages

  /** Whether the message is of interest. Asked for each. */
  concerns({ message }: Flight): boolean {
    const { suspects } = this
    if (suspects === undefined) return false
    if (suspects.isOpen) suspects.saw(message.offset)
    return suspects.stanceOf(message) !== "free"
  }

  came({ message }: Flight): void {
    this.present++
    this.suspects!.came(message)
  }

  /** The flight has ended. */
  ended({ message, outcome }: Flight): void {
    this.present--
    this.lastAt = this.settings.subscriber.time()
    if (outcome === "unfinished") return
    const change = this.suspects!.left(message)
    if (change !== undefined) this.settings.fork(this.tried([change]))
  }

  /**
   * What is done with the message now: its handler begins; it waits for its turn, or until its probation is over; or it is given up, and
   * this is why.
   */
  verdict({ message }: Flight): "begins" | "suspect" | "probation" | Cause.Cause<never> {
    const suspects = this.suspects!
    const stance = suspects.stanceOf(message)
    if (stance === "free") return "begins"
    if (stance === "suspect") return "suspect"
    if (stance === "withheld") return "probation"
    const { first, last, strikes } = suspects.caseOf(message)!
    return Cause.die(new KilledProcess({ deaths: strikes + 1, first: new Date(first), last: new Date(last) }))
  }

  /** Waits until the message may be run alone, and notes it. `false`: what is known of it has changed. */
  turn(flight: Flight): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      let turn: Turn | undefined
      const isWithheld = this.suspects!.stanceOf(flight.message) === "withheld"
      if (isWithheld && this.isOver) return Effect.as(this.convict([flight]), false)
      if (!isWithheld && !this.suspects!.runsAlone(flight.message)) return this.joins(flight)
      const waiting = Effect.async<boolean>((resume) => {
        turn = { queue: this, offset: flight.offset, wake: (has) => resume(Effect.succeed(has)) }
        if (isWithheld) return void this.withheld.set(flight, turn)
        this.asking.add(flight)
        this.settings.turns.ask(turn)
      })
      return Effect.flatMap(
        waiting,
        (has) => has ? Effect.as(this.begins(flight, turn!), true) : Effect.sync(() => this.inVain(flight))
      )
        .pipe(Effect.onInterrupt(() => Effect.sync(() => this.letGo(flight, turn, isWithheld))))
    })
  }

  private inVain(flight: Flight): false {
    this.asking.delete(flight)
    return false
  }

  private begins(flight: Flight, turn: Turn): Effect.Effect<void> {
    return Effect.suspend(() => {
      const since = this.settings.subscriber.time()
      this.turns.set(flight, { turn, since })
      this.firstAt ??= since
      this.count++
      this.settings.subscriber.counters.suspects++
      return this.tried(this.suspects!.begins(flight.message))
    })
  }

  /** It was run alone, or could not begin. What it leaves behind is gone. */
  done(flight: Flight, isFinished: boolean): Effect.Effect<void> {
    return Effect.uninterruptible(Effect.suspend(() => {
      const turn = this.turns.get(flight)?.turn
      if (turn === undefined) return this.parts(flight, isFinished)
      this.turns.delete(flight)
      this.asking.delete(flight)
      this.suspects!.ends(flight.message, isFinished)
      // The next one's start says that this one has ended. It costs one round trip for each, and not two.
      if (this.settings.turns.staysWith(turn)) return Effect.sync(() => this.settings.turns.done(turn))
      return Effect.ensuring(
        this.rests,
        Effect.sync(() => {
          this.settings.turns.done(turn)
          this.join()
        })
      )
    }))
  }

  // ----- those that are run together

  private joins(flight: Flight): Effect.Effect<boolean> {
    return Effect.async<boolean>((resume) => {
      this.joining.set(flight, () => resume(Effect.succeed(true)))
      this.join()
    }).pipe(Effect.onInterrupt(() => Effect.suspend(() => this.parts(flight, false))))
  }

  /** Lets as many begin as there is room for: one round trip for all that wait meanwhile. Those that are run alone come first. */
  private join(): void {
    const { joined, joining, suspects } = this
    if (!this.isReady || this.isJoining || this.isClosed || this.asking.size > 0 || joining.size === 0) return
    const now = this.settings.subscriber.time()
    let room = together
    for (const since of joined.values()) if (now - since < hangsAfter) room--
    const some = Array.from(joining).slice(0, Math.max(0, room))
    if (some.length === 0) return
    this.isJoining = true
    for (const [flight] of some) {
      joining.delete(flight)
      joined.set(flight, now)
    }
    this.count += some.length
    this.settings.subscriber.counters.suspects += some.length
    const changes = suspects!.beginTogether(some.map(([{ message }]) => message))
    this.settings.fork(Effect.map(this.tried(changes), () => {
      this.isJoining = false
      for (const [, wake] of some) wake()
      this.join()
    }))
  }

  private parts(flight: Flight, isFinished: boolean): Effect.Effect<void> {
    this.joining.delete(flight)
    if (!this.joined.delete(flight)) return Effect.void
    this.suspects!.ends(flight.message, isFinished)
    this.join()
    return this.joined.size > 0 || this.isJoining || this.isClosed ? Effect.void : this.rests
  }

  private get rests(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const changes = this.suspects?.rests() ?? []
      return changes.length === 0 ? Effect.void : this.tried(changes)
    })
  }

  private letGo(flight: Flight, turn: Turn | undefined, isWithheld: boolean): void {
    this.withheld.delete(flight)
    if (turn === undefined || isWithheld) return
    this.asking.delete(flight)
    if (!this.settings.turns.isHeldBy(turn)) return this.settings.turns.cancel(turn)
    this.turns.delete(flight)
    this.suspects!.ends(flight.message, false)
    this.settings.turns.done(turn)
    if (!this.isClosed) this.settings.fork(this.rests)
  }

  pick(waiting: ReadonlySet<Turn>): Turn | undefined {
    if (!this.isReady) return undefined
    const lasted = this.settings.subscriber.time() - this.openedAt
    const isAny = this.count < anyFirst && lasted < strangersFirst + anyFirstFor
    const rank = (offset: number) =>
      (isAny ? Math.imul(offset ^ this.seed, 0x9e3779b1) >>> 0 : offset) -
      // A process has died with these, and with few others.
      (this.suspects!.isNear(offset) ? Number.MAX_SAFE_INTEGER : 0)
    let picked: Turn | undefined
    for (const turn of waiting) if (picked === undefined || rank(turn.offset) < rank(picked.offset)) picked = turn
    return picked
  }

  // ----- while messages are suspected

  private get isOver(): boolean {
    return this.settings.subscriber.time() - this.openedAt >= this.settings.probation
  }

  private get watch(): Effect.Effect<void> {
    const { suspects } = this
    if (suspects === undefined || (!suspects.isOpen && suspects.withheld.length === 0)) return Effect.void
    const tick: Effect.Effect<boolean> = Effect.suspend(() => this.tick(suspects))
    const inherits = Effect.suspend(() => {
      const changes = suspects.inherits()
      return changes.length === 0 ? Effect.void : this.tried(changes)
    })
    const ready = Effect.sync(() => {
      this.isReady = true
      this.settings.turns.poke()
      this.join()
    })
    return Effect.zipRight(Effect.sleep(strangersFirst), Effect.zipRight(inherits, ready)).pipe(
      Effect.zipRight(
        Effect.delay(tick, "1 second").pipe(
          Effect.tap(() =>
            Effect.sync(() => {
              this.settings.turns.poke()
              this.join()
            })
          ),
          Effect.repeat({ until: (isDone) => isDone })
        )
      ),
      Effect.zipRight(this.sayThatItIsOver)
    )
  }

  private tick(suspects: Suspects): Effect.Effect<boolean> {
    const { alone, subscriber } = this.settings
    const now = subscriber.time()
    if (this.isOver) {
      suspects.survived()
      if (this.withheld.size > 0) return Effect.as(this.convict(Array.from(this.withheld.keys())), false)
    }
    for (const [flight, { since, turn }] of this.turns) if (now - since >= hangsAfter) this.hangs(flight, turn, since)
    if (!suspects.isGrouped && this.firstAt !== undefined && now - this.firstAt >= alone) {
      return Effect.as(this.group(suspects), false)
    }
    if (this.present > 0 || now - this.lastAt < quiet || !this.isOver) return Effect.succeed(false)
    return Effect.as(this.tried(suspects.over()), true)
  }

  private convict(flights: ReadonlyArray<Flight>): Effect.Effect<void> {
    return Effect.forEach(flights, (flight) => {
      const suspects = this.suspects!
      suspects.survived()
      const change = suspects.convict(flight.message)
      if (change === undefined) return Effect.void
      const { strikes } = suspects.caseOf(flight.message)!
      this.settings.subscriber.counters.poisoned++
      this.tell("convicted", flight.offset)
      return Effect.zipRight(
        this.tried([change]),
        this.warn(
          `${flight.offset} goes to the failure policy without being started: ${
            strikes + 1
          } processes died with it, and this one lives without it`
        )
      )
    }, { discard: true }).pipe(
      Effect.map(() => {
        for (const flight of flights) {
          this.withheld.get(flight)?.wake(false)
          this.withheld.delete(flight)
        }
        // They were suspects because of these deaths.
        this.settings.turns.dismiss(this)
      })
    )
  }

  /** It stays in hand, and is not alone any more. */
  private hangs(flight: Flight, turn: Turn, since: number): void {
    this.turns.delete(flight)
    this.asking.delete(flight)
    this.joined.set(flight, since)
    this.settings.turns.done(turn)
  }

  /** Many that take long must not keep the others waiting. */
  private group(suspects: Suspects): Effect.Effect<void> {
    suspects.group()
    this.settings.turns.dismiss(this)
    if (this.present === this.withheld.size) return Effect.void
    return this.warn(
      `${this.count} suspects have been run one at a time for ${
        this.settings.alone / 1_000
      } s. The rest are run together, at most ${together} at once`
    )
  }

  private get sayThatItIsOver(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Logging.info(`${this.name}: nothing is suspected any more. ${this.count} messages were run alone`, this.notes)
    )
  }

  // ----- closing

  private isClosed = false

  /** The lane has closed, and nothing of it runs any more. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isClosed = true
      return Fiber.interrupt(this.fiber)
    }).pipe(
      Effect.flatMap(() => {
        this.settings.turns.dismiss(this)
        const changes = this.suspects?.closed() ?? [Records.change(Records.lifeKey(this.life), null)]
        return Effect.timeout(Effect.interruptible(this.written(changes)), closeTimeout)
      }),
      Effect.catchAllCause((cause) =>
        this.warn(
          `the store was not told that the partition was closed in order, so what is unfinished will be suspected: ${
            describeCause(cause)
          }`
        )
      )
    )
  }

  // ----- the store

  private written(changes: ReadonlyArray<StoreChange>): Effect.Effect<void, PublishError> {
    return Effect.flatMap(
      this.settings.store.write(this.place.partition, changes, { timeout: writeTimeout }),
      (results) => {
        const failed = results.find(Either.isLeft)
        return failed === undefined ? Effect.void : Effect.fail(failed.left)
      }
    )
  }

  private insisting<A, E extends Error>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.settings.lasting.retry(effect, { schedule: again })
  }

  /** Writes; and goes on without, after a while: the message must not wait for ever. */
  private tried(changes: ReadonlyArray<StoreChange>): Effect.Effect<void> {
    // One after the other: a write that is tried again must not replace what is newer.
    const writing = this.writer.withPermits(1)(this.insisting(this.written(changes)))
    return Effect.suspend(() => Effect.timeoutOption(Effect.interruptible(writing), this.isAway ? briefly : patience))
      .pipe(
        Effect.flatMap((written) => {
          const wasAway = this.isAway
          this.isAway = Option.isNone(written)
          if (this.isAway === wasAway) return Effect.void
          return this.warn(
            wasAway ? "the store answers again" : "the store does not answer, so it is not noted what is in hand"
          )
        }),
        Effect.catchAllCause((cause) => Cause.isInterruptedOnly(cause) ? Effect.void : this.warn(describeCause(cause)))
      )
  }

  private get name(): string {
    return `${this.place.topic}[${this.place.partition}]`
  }

  private get notes(): Logging.Notes {
    const { partition, topic } = this.place
    return { topic, partition, group: this.settings.subscriber.group }
  }

  private warn(text: string): Effect.Effect<void> {
    return Logging.warning(`${this.name}: ${text}`, this.notes)
  }

  private tell(what: "struck" | "cleared" | "convicted", offset: number): void {
    const { name, observer } = this.settings.subscriber
    const { partition, topic } = this.place
    observer.event?.({ _tag: "Poison", what, subscription: name, topic, partition, offset })
  }
}
