/**
 * Watches handlers: counts them within a window of time after a warm-up, and
 * checks each start: nothing overtaken, nothing left out, nothing twice, and no two of one aggregate at once.
 */
export interface MeterOptions {
  readonly aggregates: number
  /** What there is to handle; when it is handled the measurement ends early. */
  readonly total: number
  /** The most steps of one aggregate, where it is known: what waits for each takes no more memory than that needs. */
  readonly most?: number | undefined
  readonly warmUpMs: number
  readonly windowMs: number
}

export interface Reading {
  /** What was handled, the warm-up included. */
  readonly handled: number
  /** Handled per second within the window. */
  readonly rate: number
  /** Starts out of order, or beside another one of the aggregate. */
  readonly violations: number
  /** Steps that were left out. */
  readonly lost: number
  readonly rssMb: number
  /** Processor time of the process for each step within the window, in microseconds. */
  readonly cpuUs: number
}

/** The clock is asked once for so many messages. */
const askEvery = 16

export class Meter {
  private readonly next: Uint8Array | Int32Array
  private readonly running: Uint8Array
  private started = 0
  private handled = 0
  private violations = 0
  private firstAt = 0
  private warmAt = 0
  private warmCount = 0
  private endAt = 0
  private endCount = 0
  private rss = 0
  private cpuFrom = process.cpuUsage()
  private cpuTo = this.cpuFrom
  private end!: () => void
  /** Resolves when the window is over, or everything is handled. */
  readonly done: Promise<void> = new Promise((resolve) => {
    this.end = resolve
  })

  constructor(private readonly options: MeterOptions) {
    // A byte holds what comes after the last one, too.
    this.next = new (options.most !== undefined && options.most <= 255 ? Uint8Array : Int32Array)(options.aggregates)
    this.running = new Uint8Array(options.aggregates)
  }

  get finished(): number {
    return this.handled
  }

  get isOver(): boolean {
    return this.endAt > 0
  }

  start(aggregate: number, sequence: number): void {
    if (this.started++ === 0) {
      this.firstAt = performance.now()
      this.cpuFrom = process.cpuUsage()
    }
    if (this.next[aggregate] !== sequence || this.running[aggregate] === 1) this.violations++
    // What was left out is not counted again with each step after it.
    if (sequence >= this.next[aggregate]!) this.next[aggregate] = sequence + 1
    this.running[aggregate] = 1
  }

  finish(aggregate: number): void {
    this.running[aggregate] = 0
    this.handled++
    if (this.handled % askEvery !== 0 && this.handled !== this.options.total) return
    const now = performance.now()
    const { total, warmUpMs } = this.options
    // A fifth of all is enough where there is little.
    if (this.warmAt === 0 && (now - this.firstAt >= warmUpMs || this.handled * 5 >= total)) {
      this.warmAt = now
      this.warmCount = this.handled
      this.cpuFrom = process.cpuUsage()
    }
    if (this.endAt > 0) return
    const isTimeUp = this.warmAt > 0 && now - this.warmAt >= this.options.windowMs
    if (!isTimeUp && this.handled !== this.options.total) return
    this.endAt = now
    this.endCount = this.handled
    this.cpuTo = process.cpuUsage()
    this.rss = process.memoryUsage.rss()
    this.end()
  }

  read(): Reading {
    // Everything was handled before the warm-up ended: all of it counts.
    const [from, count] = this.warmAt === 0 || this.warmAt >= this.endAt
      ? [this.firstAt, this.endCount]
      : [this.warmAt, this.endCount - this.warmCount]
    let expected = 0
    for (const next of this.next) expected += next
    const isAll = this.endCount === this.options.total
    return {
      handled: this.handled,
      rate: count / Math.max(1e-6, (this.endAt - from) / 1000),
      violations: this.violations,
      // Where it ended early, what had begun counts; a step that never came shows as one that was left out.
      lost: isAll ? Math.max(0, expected - this.handled) : Math.max(0, expected - this.started),
      rssMb: this.rss / 1_048_576,
      cpuUs: (this.cpuTo.user + this.cpuTo.system - this.cpuFrom.user - this.cpuFrom.system) / Math.max(1, count)
    }
  }
}
