import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Schedule from "effect/Schedule"
import type { PublishError } from "../../EventBusError.js"
import type { Store, StoreChange } from "../../Transport.js"
import { Condition } from "../condition.js"
import { describeCause } from "../describeCause.js"
import type { Flight } from "../flight.js"
import type { Lasting } from "../lasting.js"
import * as Logging from "../logging.js"

/** How much is written at a time. */
const maxChanges = 256
const maxBytes = 1_048_576

/** While so many changes wait, no letter is begun: its removal would wait as well, and after a crash the letter would come again. */
const maxWaiting = 1_000

/**
 * A change that is to be written.
 *
 * @internal
 */
export interface Job {
  readonly change: StoreChange
  /** The store has it, at this revision. Or it can't be written, and not because the store is away: what is behind it goes on. */
  readonly done: (result: Either.Either<number, PublishError>) => void
  /** The message of which it is the letter. */
  readonly flight?: Flight | undefined
}

/** @internal */
export interface WriterSettings {
  readonly store: Store
  readonly partition: number
  readonly timeout: Duration.Duration
  /** When a write that failed is tried again. It has no end. */
  readonly schedule: Schedule.Schedule<unknown, PublishError>
  readonly lasting: Lasting
  /** Runs something until the subscription ends. */
  readonly fork: (effect: Effect.Effect<void>) => unknown
}

/**
 * Writes changes of one partition's store in the order in which they were given, several at a time, and tries again what the store did not take.
 *
 * @internal
 */
export class Writer {
  private queue: Array<Job> = []
  private isRunning = false
  private isClosed = false
  private readonly idle = new Condition(() => this.isIdle)
  /** There is room for the removal of a letter. */
  readonly room = new Condition(() => this.isClosed || this.queue.length < maxWaiting)

  constructor(private readonly settings: WriterSettings) {}

  get size(): number {
    return this.queue.length
  }

  push(job: Job): void {
    this.queue.push(job)
    if (this.isRunning || this.isClosed) return
    this.isRunning = true
    this.settings.fork(this.run)
  }

  /** Takes out jobs of which no write has begun. */
  takeOut(which: (job: Job) => boolean): ReadonlyArray<Job> {
    const out = this.queue.filter(which)
    if (out.length > 0) this.queue = this.queue.filter((job) => !out.includes(job))
    return out
  }

  private get isIdle(): boolean {
    return this.isClosed || (this.queue.length === 0 && !this.isRunning)
  }

  /** Waits until all is written, but no longer than this. */
  settle(atMost: Duration.Duration): Effect.Effect<void> {
    return this.idle.waitFor(atMost)
  }

  /** What is not being written is not written any more. */
  close(): void {
    this.isClosed = true
    this.queue = []
    this.idle.changed()
    this.room.changed()
  }

  private get run(): Effect.Effect<void> {
    return Effect.whileLoop({
      while: () => {
        this.isRunning = !this.isClosed && this.queue.length > 0
        if (!this.isRunning) this.idle.changed()
        return this.isRunning
      },
      body: () => this.writeSome,
      step: () => {}
    })
  }

  private get writeSome(): Effect.Effect<void> {
    const { lasting, schedule } = this.settings
    return lasting.retry(Effect.suspend(() => this.writeOnce), { schedule, while: () => !this.isClosed }).pipe(
      // It was closed meanwhile.
      Effect.ignore
    )
  }

  /** Writes the first jobs. It fails if nothing of them could be written. */
  private get writeOnce(): Effect.Effect<void, PublishError> {
    const { partition, store, timeout } = this.settings
    const jobs = this.first()
    if (jobs.length === 0) return Effect.void
    return Effect.flatMap(
      store.write(partition, jobs.map(({ change }) => change), { timeout }),
      (results) => this.written(jobs, results)
    )
  }

  private written(
    jobs: ReadonlyArray<Job>,
    results: ReadonlyArray<Either.Either<number, PublishError>>
  ): Effect.Effect<void, PublishError> {
    const at = results.findIndex(Either.isLeft)
    const good = at === -1 ? jobs.length : at
    const failed = results[at]
    // Before those that wait for one of them are told: they may push more.
    const isOwn = failed !== undefined && Either.isLeft(failed) && isOfChange(failed.left)
    const rest = jobs.slice(isOwn ? good + 1 : good)
    this.queue = [...rest, ...this.queue]
    this.room.changed()
    const thrown: Array<unknown> = []
    for (let i = 0; i < good; i++) tell(jobs[i]!, results[i]!, thrown)
    if (isOwn) tell(jobs[at]!, failed, thrown)
    const said = thrown.length === 0
      ? Effect.void
      : Logging.error(
        `A transport or a callback threw when a letter was written: ${describeCause(Cause.die(thrown[0]))}`
      )
    return failed === undefined || Either.isRight(failed) || isOwn || good > 0 ? said : Effect.fail(failed.left)
  }

  /** They leave the queue while they are written. */
  private first(): ReadonlyArray<Job> {
    let bytes = 0
    let count = 0
    for (const { change: { value } } of this.queue) {
      bytes += value?.length ?? 0
      if (count > 0 && (bytes > maxBytes || count >= maxChanges)) break
      count++
    }
    const jobs = this.queue.slice(0, count)
    this.queue = this.queue.slice(count)
    return jobs
  }
}

/** Whoever throws must neither keep the others from being told, nor end the writer. */
const tell = (job: Job, result: Either.Either<number, PublishError>, thrown: Array<unknown>): void => {
  try {
    job.done(result)
  } catch (error) {
    thrown.push(error)
  }
}

/** The change itself is refused, and others are not. */
const isOfChange = ({ _tag }: PublishError): boolean => _tag === "MessageTooLarge" || _tag === "InvalidMessage"
