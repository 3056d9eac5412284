import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"

/** How long handlers may run before the event loop has its turn, in milliseconds. */
const longest = 10

/** How many of the waiting fibers go on in one turn. */
const atOnce = 256

/** So many handlers start before the clock is read again, unless they take long. */
const readEvery = 8

/**
 * The turns of the event loop. Handlers that never wait would keep it from heartbeats, leases and timers. So before each task a
 * slot asks whether the present turn has lasted too long. This is also the clock of flights: it is read once for several of them.
 *
 * @internal
 */
export class Turns {
  private now = 0
  private since = 0
  private starts = 0
  private every = readEvery
  private isArmed = false
  private waiting: Array<() => void> = []
  private readonly isLive: boolean

  constructor(private readonly clock: Clock.Clock) {
    this.isLive = clock === Context.get(DefaultServices.liveServices, Clock.Clock)
  }

  /** Milliseconds since the epoch. */
  time(): number {
    if (!this.isLive) return this.clock.unsafeCurrentTimeMillis()
    if (!this.isArmed) this.arm()
    return this.now
  }

  /** Milliseconds since some point in time. Unlike the wall clock it is never set back. */
  monotonic(): number {
    return this.isLive ? performance.now() : Number(this.clock.unsafeCurrentTimeNanos() / 1_000_000n)
  }

  /** A handler is about to start. `true`: the event loop has to have its turn before. */
  isOver(): boolean {
    // In virtual time no heartbeat or lease waits for the event loop.
    if (!this.isLive) return false
    if (!this.isArmed) this.arm()
    else if (++this.starts >= this.every) this.read()
    return this.now - this.since >= longest
  }

  /** Waits until the event loop has had its turn. */
  readonly next: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (!this.isArmed) this.arm()
    this.waiting.push(() => resume(Effect.void))
  })

  private arm(): void {
    this.isArmed = true
    this.starts = 0
    this.now = this.since = this.clock.unsafeCurrentTimeMillis()
    afterEvents(this.ended)
  }

  private read(): void {
    const now = this.clock.unsafeCurrentTimeMillis()
    // If a handler took long, the clock is read before each start.
    this.every = now - this.now > 1 ? 1 : readEvery
    // The wall clock can be set back.
    if (now < this.since) this.since = now
    this.now = now
    this.starts = 0
  }

  private readonly ended = (): void => {
    this.isArmed = false
    if (this.waiting.length === 0) return
    const going = this.waiting.splice(0, atOnce)
    this.arm()
    for (const resume of going) resume()
  }
}

/** Runs something when the event loop has had its turn. */
export const afterEvents = (run: () => void): void => {
  // Browsers have none.
  if (typeof setImmediate === "function") setImmediate(run)
  else setTimeout(run)
}
