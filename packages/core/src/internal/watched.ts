import type * as Observer from "../Observer.js"
import type { Flight } from "./flight.js"

/**
 * Who measures the flights of a bus for a while.
 *
 * @internal
 */
export interface Watcher {
  readonly transition: (flight: Flight, from: Observer.State | undefined) => void
  /** A handler crashed, and its actor goes on. */
  readonly restarted: (flight: Flight) => void
  /** It watches no more, and lets go of all flights. */
  readonly ended: () => void
}

/**
 * The observer of a bus, and who watches beside it for a while. Where nobody watches it is the observer's own functions, so watching costs nothing
 * before it begins and after it ends.
 *
 * @internal
 */
export class Watched implements Observer.Service {
  transition: Observer.Service["transition"]
  event: Observer.Service["event"]
  readonly spanOf: Observer.Service["spanOf"]
  readonly onPublish: Observer.Service["onPublish"]
  private watcher: Watcher | undefined

  constructor(private readonly own: Observer.Service) {
    this.transition = own.transition
    this.event = own.event
    this.spanOf = own.spanOf
    this.onPublish = own.onPublish
  }

  /** `false`: somebody watches already. */
  begin(watcher: Watcher): boolean {
    if (this.watcher !== undefined) return false
    this.watcher = watcher
    const { event, transition } = this.own
    this.transition = (flight, from, since) => {
      watcher.transition(flight as Flight, from)
      transition?.(flight, from, since)
    }
    this.event = (told) => {
      if (told._tag === "Restarted") watcher.restarted(told.flight as Flight)
      event?.(told)
    }
    return true
  }

  end(watcher: Watcher): void {
    if (this.watcher !== watcher) return
    this.watcher = undefined
    this.transition = this.own.transition
    this.event = this.own.event
    watcher.ended()
  }
}
