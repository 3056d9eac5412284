import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { InvalidConfiguration } from "../../EventBusError.js"
import type { Position, PublishError, ReadError } from "../../EventBusError.js"
import type * as Transport from "../../Transport.js"
import * as Logging from "../logging.js"
import * as Headers from "./headers.js"
import { isOf, type Sources } from "./letters.js"
import * as Marks from "./marks.js"
import { DeadLettersFailed, type Letter, type ReleaseOptions, type Report, type Target } from "./model.js"

/** @internal */
export interface Environment {
  readonly transport: Transport.Service
  readonly topic: Transport.TopicSpec
  readonly group: string
  readonly store: Transport.Store | undefined
  readonly sources: Sources
  readonly partitions: Effect.Effect<ReadonlyArray<Transport.ReadPartition>, ReadError, Scope.Scope>
  readonly publishTimeout: Duration.Duration
}

/** @internal */
export type How = ReleaseOptions

const defaultBatch = 100
const maxListed = 100

/** How often what can be tried again is tried in a row, each time for as long as a publish may take. */
const again = Schedule.intersect(Schedule.exponential("100 millis"), Schedule.recurs(3))

/** How many ids a letter is tried with, where other messages have the first ones. */
const maxIds = 8

type Counts = { -readonly [K in keyof Omit<Report, "refused">]: Report[K] } & {
  readonly refused: Array<{ readonly position: Position; readonly error: PublishError }>
}

/** What became of one letter that was published. */
type Ending =
  | { readonly _tag: "Written"; readonly wasStored: boolean }
  | { readonly _tag: "Refused"; readonly error: PublishError }
  | { readonly _tag: "Failed"; readonly error: PublishError }

class Ended {
  readonly _tag = "Ended"
  constructor(readonly cause: PublishError, readonly uncertain: number) {}
}

/**
 * Releases or discards letters, partition by partition. No two letters of an aggregate are published at once: a broker may refuse the first of them, and
 * then the second must not be written.
 *
 * @internal
 */
export const run = (
  environment: Environment,
  target: Target,
  done: Marks.Mark["done"],
  how: How
): Effect.Effect<Report, DeadLettersFailed | InvalidConfiguration> =>
  Effect.gen(function*() {
    const { store, topic } = environment
    const issues = issuesOf(how)
    if (store === undefined && how.dryRun !== true) {
      issues.push(`the ${environment.transport.name} transport has no store, in which is remembered what is done`)
    }
    if (issues.length > 0) return yield* new InvalidConfiguration({ topic: topic.name, issues })
    const report: Counts = {
      letters: 0,
      recognized: 0,
      refused: [],
      refusals: 0,
      behind: 0,
      elsewhere: 0,
      done: 0,
      strangers: 0
    }
    yield* Effect.scoped(Effect.flatMap(environment.partitions, (partitions) =>
      Effect.forEach(partitions, (partition) =>
        new Run(environment, isOf(target), done, how, report).partition(partition), {
        discard: true
      }))).pipe(
        Effect.catchAll((error) => {
          const isOurs = error._tag === "Ended"
          return Effect.fail(
            new DeadLettersFailed({
              topic: topic.name,
              report,
              uncertain: isOurs ? error.uncertain : 0,
              cause: isOurs ? error.cause : error
            })
          )
        }),
        Effect.ensuring(Effect.suspend(() =>
          said(environment, done, how, report)
        ))
      )
    return report
  })

const issuesOf = ({ batch = defaultBatch, rate, who, why }: How): Array<string> => {
  const issues: Array<string> = []
  for (const [name, text] of [["who", who], ["why", why]] as const) {
    if (typeof text !== "string" || text.trim() === "") issues.push(`${name}: expected a text that is not blank`)
  }
  if (rate !== undefined && !(rate > 0)) issues.push(`rate: expected a number above 0, got ${rate}`)
  if (!Number.isSafeInteger(batch) || batch < 1) {
    issues.push(`batch: expected a whole number of at least 1, got ${batch}`)
  }
  return issues
}

const said = ({ group, topic }: Environment, done: Marks.Mark["done"], how: How, report: Report) =>
  how.dryRun === true ? Effect.void : Logging.info(
    `${report.letters} dead letters of ${topic.name} are ${done}`,
    { topic: topic.name, group, who: how.who, why: how.why, refused: report.refusals, behind: report.behind }
  )

class Run {
  /** Of these aggregates a letter was refused. */
  private readonly stopped = new Set<string>()
  private batch: Array<Letter> = []
  private readonly inBatch = new Set<string>()
  private readonly batchSize: number
  private marks = new Marks.Marks()

  constructor(
    private readonly environment: Environment,
    private readonly isWanted: (letter: Letter) => boolean,
    private readonly done: Marks.Mark["done"],
    private readonly how: How,
    private readonly report: Counts
  ) {
    const { batch = defaultBatch, rate = Infinity } = how
    // What is released in a tenth of a second comes at once.
    this.batchSize = Math.max(1, Math.min(batch, Math.ceil(rate / 10)))
  }

  partition({ from, messages, partition }: Transport.ReadPartition): Effect.Effect<void, Ended | ReadError> {
    const { publishTimeout, store } = this.environment
    return Effect.gen(this, function*() {
      this.marks = yield* Marks.read(store, partition)
      if (store !== undefined && this.how.dryRun !== true) {
        yield* Marks.removeBelow(store, partition, this.marks, from, publishTimeout)
      }
      yield* Stream.runForEachChunk(messages, (chunk) =>
        Effect.forEach(chunk, (message) => {
          const letter = this.chosen(message)
          return letter === undefined ? Effect.void : this.add(letter)
        }, { discard: true }))
      yield* this.flush
    })
  }

  /** The letter, if it is one of those that are wanted and can be released. */
  private chosen(message: Transport.IncomingMessage): Letter | undefined {
    const { report } = this
    const { sources } = this.environment
    const letter = sources.letterOf(message)
    if (letter === undefined) report.strangers++
    else if (this.marks.has(letter)) report.done++
    else if (!this.isWanted(letter)) return undefined
    else if (this.done === "released" && sources.of(letter.content.position.topic) === undefined) report.elsewhere++
    else return letter
    return undefined
  }

  private add(letter: Letter): Effect.Effect<void, Ended> {
    return Effect.suspend(() => {
      const key = keyOf(letter)
      const isSecond = key !== undefined && this.done === "released" && this.inBatch.has(key)
      return (isSecond || this.batch.length >= this.batchSize ? this.flush : Effect.void).pipe(
        Effect.map(() => {
          if (key !== undefined && this.stopped.has(key)) {
            this.report.behind++
            return
          }
          this.batch.push(letter)
          if (key !== undefined) this.inBatch.add(key)
        })
      )
    })
  }

  /** Publishes what is gathered and remembers it. Whoever interrupts it waits for both, or it would be published again. */
  private readonly flush: Effect.Effect<void, Ended> = Effect.suspend(() => {
    const letters = this.batch
    this.batch = []
    this.inBatch.clear()
    if (letters.length === 0) return Effect.void
    if (this.how.dryRun === true) {
      return Effect.sync(() => {
        this.report.letters += letters.length
      })
    }
    const { rate } = this.how
    return Effect.zipRight(
      Effect.uninterruptible(this.done === "released" ? this.release(letters) : this.remember(letters)),
      rate === undefined ? Effect.void : Effect.sleep(Duration.seconds(letters.length / rate))
    )
  })

  private release(letters: ReadonlyArray<Letter>): Effect.Effect<void, Ended> {
    return Effect.gen(this, function*() {
      const { report } = this
      const endings = yield* Effect.forEach(letters, (letter) => this.publish(letter), { concurrency: "unbounded" })
      const written = letters.filter((_, i) => endings[i]!._tag === "Written")
      let failure: PublishError | undefined
      let unknown = 0
      endings.forEach((ending, i) => {
        if (ending._tag === "Written") {
          if (ending.wasStored) report.recognized++
          return
        }
        const letter = letters[i]!
        if (ending._tag === "Failed") {
          failure ??= ending.error
          if (ending.error._tag === "PublishFailed" && ending.error.outcome === "unknown") unknown++
          return
        }
        const key = keyOf(letter)
        if (key !== undefined) this.stopped.add(key)
        report.refusals++
        if (report.refused.length < maxListed) report.refused.push({ position: letter.position, error: ending.error })
      })
      yield* this.remember(written)
      if (failure !== undefined) return yield* Effect.fail(new Ended(failure, unknown))
    })
  }

  private publish(letter: Letter, copy = 1): Effect.Effect<Ending> {
    const { publishTimeout, sources, topic, transport } = this.environment
    const { content, position: { offset, partition }, time } = letter
    const { key, value } = content.original
    const from = `${topic.name}/${partition}/${offset}`
    // Of this letter only, and the same when it is tried again: so a broker that knows ids writes it once.
    const id = `released/${this.environment.group}/${from}/${time}${copy === 1 ? "" : `/${copy}`}`
    const { spec } = sources.of(content.position.topic)!
    const aggregateId = letter.aggregate === undefined || letter.aggregate.startsWith(" ")
      ? undefined
      : letter.aggregate
    const send = (headers: Transport.OutgoingMessage["headers"]) =>
      Effect.flatMap(
        transport.publish(
          spec,
          // It has the time of its release, or the topic's retention would soon take it away.
          [{ id, aggregateId, key, value, headers, timestamp: undefined }],
          { timeout: publishTimeout }
        ),
        (results) => results[0]!
      )
    return send(Headers.ofReleased(content, from, id, this.how)).pipe(
      // The headers that are added must not be what it is refused for.
      Effect.catchIf(isRefusal, () => send(content.original.headers)),
      Effect.retry({ while: (error) => "isRetryable" in error && error.isRetryable, schedule: again }),
      Effect.matchEffect({
        onSuccess: ({ wasStored }): Effect.Effect<Ending> =>
          Effect.succeed({ _tag: "Written", wasStored: wasStored === true }),
        onFailure: (error): Effect.Effect<Ending> => {
          if (error._tag === "PublishFailed" && error.reason === "Duplicate") {
            // An earlier try has written it, or another message has its id.
            if (error.outcome === "unknown") return Effect.succeed({ _tag: "Written", wasStored: true })
            if (copy < maxIds) return this.publish(letter, copy + 1)
          }
          return Effect.succeed({ _tag: isFinal(error) ? "Refused" : "Failed", error })
        }
      })
    )
  }

  private remember(letters: ReadonlyArray<Letter>): Effect.Effect<void, Ended> {
    const { publishTimeout, store } = this.environment
    if (letters.length === 0) return Effect.void
    return Effect.flatMap(Clock.currentTimeMillis, (at) =>
      Marks.write(
        store!,
        letters[0]!.position.partition,
        this.marks,
        letters,
        { done: this.done, who: this.how.who, why: this.how.why, at },
        publishTimeout
      )).pipe(
        Effect.retry({ while: (error) => "isRetryable" in error && error.isRetryable, schedule: again }),
        Effect.mapBoth({
          onFailure: (error) => new Ended(error, this.done === "released" ? letters.length : 0),
          onSuccess: () => {
            this.report.letters += letters.length
          }
        })
      )
  }
}

/** What it is ordered by. Undefined: it has no order. */
const keyOf = ({ aggregate, content: { position: { topic } } }: Letter): string | undefined =>
  aggregate === undefined ? undefined : `${topic}\n${aggregate}`

const isRefusal = (error: PublishError): boolean => error._tag === "InvalidMessage" || error._tag === "MessageTooLarge"

/** Of this message, and certainly not written: others may be taken. */
const isFinal = (error: PublishError): boolean =>
  isRefusal(error) ||
  (error._tag === "PublishFailed" && !error.isRetryable && error.outcome === "not-written")
