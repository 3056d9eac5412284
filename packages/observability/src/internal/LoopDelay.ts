import * as Effect from "effect/Effect"
import { globalValue } from "effect/GlobalValue"
import type * as Scope from "effect/Scope"
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks"

/** How often the longest delay is put away, and of how many such times it is told. */
const slot = 1_000
const slots = 60

/** By how much the histogram's own timer is late at rest, in milliseconds: it counts its interval, too. */
const resolution = 20

class Monitor {
  private users = 0
  private histogram: IntervalHistogram | undefined
  private timer: NodeJS.Timeout | undefined
  private turnedAt = 0
  private readonly longest: Array<number> = []

  begin(): void {
    if (this.users++ > 0) return
    this.histogram = monitorEventLoopDelay({ resolution })
    this.histogram.enable()
    this.turnedAt = performance.now()
    this.timer = setInterval(() => this.turn(), slot)
    this.timer.unref()
  }

  end(): void {
    if (--this.users > 0) return
    clearInterval(this.timer)
    this.histogram?.disable()
    this.longest.length = 0
  }

  seconds(): number {
    return Math.max(0, this.present(), ...this.longest)
  }

  private turn(): void {
    this.longest.push(this.present())
    this.turnedAt = performance.now()
    if (this.longest.length > slots) this.longest.shift()
    this.histogram?.reset()
  }

  private present(): number {
    const { histogram } = this
    if (histogram === undefined) return 0
    // Whoever asks right after a long turn comes before the loop's timers, the histogram's among them.
    const late = (performance.now() - this.turnedAt - slot) / 1e3
    // Without a value the histogram's longest is 0.
    return Math.max(0, late, histogram.max / 1e9 - resolution / 1e3)
  }
}

/** The process has one event loop. It is one for all copies of this module. */
const monitor = globalValue("@effect-eventbus/observability/loopDelay", () => new Monitor())

/**
 * Measures the event loop's delay as long as the scope lives. The answer is the longest one of the last minute, in seconds.
 *
 * @internal
 */
export const measured: Effect.Effect<() => number, never, Scope.Scope> = Effect.as(
  Effect.acquireRelease(Effect.sync(() => monitor.begin()), () => Effect.sync(() => monitor.end())),
  () => monitor.seconds()
)
