import { type Assignment, type Consumer, type IncomingMessage, type OutgoingMessage, type Service, type SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Servers from "@effect-eventbus/brokers/Nats"
import { Duration, Effect, Either, Exit, Layer, Logger, LogLevel, Scope } from "effect"
import { connect, type NatsConnection } from "nats"
import { type NatsConfig, NatsTransport } from "../src/index.js"

export const versions = ["2.15", "2.9"] as const

export const server = (version: "2.15" | "2.9" = "2.15", config?: string) => Servers.make({ version, own: true, config })

export const transport = (servers: ReadonlyArray<string>, options: NatsConfig.Options = {}) =>
  NatsTransport.make({ servers, reconnectWait: "50 millis", ...options })

/** Runs on real time, and shows warnings only when they are asked for. */
export const run = <A, E>(program: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Effect.scoped(program).pipe(
    Effect.provide(process.env["LOGS"] === undefined ? Logger.minimumLogLevel(LogLevel.None) : Layer.empty)
  ))

/** The server as somebody else sees it. */
export const client = (servers: ReadonlyArray<string>): Effect.Effect<NatsConnection, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => connect({ servers: [...servers], maxReconnectAttempts: -1, reconnectTimeWait: 50 })),
    (nc) => Effect.promise(() => nc.close())
  )

let serial = 0
/** A topic that no other test uses. */
export const topic = (kind: "envelope" | "plain" = "envelope", name = "orders") => ({
  name: `test.${name}.${process.pid}.${serial++}`,
  kind
})

export const message = (n: number, aggregateId: string | undefined = `a-${n % 20}`): OutgoingMessage => ({
  id: `event-${n}`,
  aggregateId,
  key: null,
  value: new TextEncoder().encode(String(n)),
  headers: {},
  timestamp: undefined
})

export const messages = (from: number, to: number, aggregates = 20): ReadonlyArray<OutgoingMessage> =>
  Array.from({ length: to - from }, (_, i) => message(from + i, `a-${(from + i) % aggregates}`))

export const numberOf = (message: IncomingMessage): number => Number(new TextDecoder().decode(message.value!))

const timeout = Duration.seconds(10)

/** Publishes, and fails when one of the messages was not written. */
export const publish = (
  service: Service,
  topic: { readonly name: string; readonly kind: "envelope" | "plain" },
  messages: ReadonlyArray<OutgoingMessage>
) =>
  Effect.flatMap(
    service.publish(topic, messages, { timeout }),
    (results) => Effect.forEach(results, (result) => Either.isRight(result) ? Effect.succeed(result.right) : Effect.fail(result.left))
  )

export const request = (
  topic: { readonly name: string; readonly kind: "envelope" | "plain" },
  overrides: Partial<SubscribeRequest> = {}
): SubscribeRequest => ({
  topic,
  group: "group",
  semantics: "at-least-once",
  startFrom: "earliest",
  maxAboveWatermark: 10_000,
  maxUnfinished: 1_000,
  drainDeadline: Duration.seconds(1),
  ...overrides
})

/** The bus's side: remembers what it was offered, and finishes it as the test says. */
export class TestConsumer implements Consumer {
  readonly taken: Array<IncomingMessage> = []
  readonly unfinished = new Map<number, IncomingMessage>()
  readonly assignments: Array<Assignment> = []
  /** What broke the rules, in words. */
  readonly violations: Array<string> = []
  private readonly last = new Map<string, number>()
  private readonly finished = new Set<number>()
  private isRefusing = false
  isClosed = false

  constructor(
    private readonly options: {
      /** How many unfinished messages it holds. */
      readonly capacity?: number
      /** Called for each message; by default it is finished at once. */
      readonly onMessage?: (message: IncomingMessage, consumer: TestConsumer) => void
    } = {}
  ) {}

  get assignment(): Assignment {
    return this.assignments[this.assignments.length - 1]!
  }

  get numbers(): ReadonlyArray<number> {
    return this.taken.map(numberOf)
  }

  readonly assigned = (assignment: Assignment) => {
    this.assignments.push(assignment)
    this.last.clear()
    this.finished.clear()
    return {
      offer: (messages: ReadonlyArray<IncomingMessage>) => {
        if (this.isClosed) this.violations.push("offered after it was closed")
        if (this.isRefusing) this.violations.push("offered again before resume")
        const room = (this.options.capacity ?? Infinity) - this.unfinished.size
        const taken = messages.slice(0, Math.max(0, room))
        for (const message of taken) this.take(message)
        this.isRefusing = taken.length < messages.length
        return taken.length
      },
      close: () => {
        this.unfinished.clear()
        return Effect.succeed({ unfinished: 0, lost: 0 })
      }
    }
  }

  finish(message: IncomingMessage): void {
    this.unfinished.delete(message.offset)
    this.finished.add(message.offset)
    this.assignment.finish(message)
    if (!this.isRefusing) return
    this.isRefusing = false
    // The port forbids it from within an offer.
    queueMicrotask(() => this.assignment.resume())
  }

  private take(message: IncomingMessage): void {
    const { offset } = message
    if (this.unfinished.has(offset)) this.violations.push(`${offset} was offered while it is in hand`)
    if (this.finished.has(offset)) this.violations.push(`${offset} was offered after it was finished`)
    const aggregate = String(message.headers["X-Aggregate-ID"])
    const before = this.last.get(aggregate) ?? 0
    if (offset <= before) this.violations.push(`${offset} of ${aggregate} was offered after ${before}`)
    this.last.set(aggregate, offset)
    this.taken.push(message)
    this.unfinished.set(offset, message)
    if (this.options.onMessage === undefined) this.finish(message)
    else this.options.onMessage(message, this)
  }
}

/** Polls until the condition holds. */
export const waitUntil = (what: string, condition: () => boolean | Promise<boolean>, millis = 15_000) =>
  Effect.gen(function*() {
    const deadline = performance.now() + millis
    while (!(yield* Effect.promise(async () => condition()))) {
      if (performance.now() > deadline) return yield* Effect.die(new Error(`${what}: not within ${millis} ms`))
      yield* Effect.sleep(10)
    }
  })

/** A scope that the test closes itself. */
export const scoped = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const value = yield* Scope.extend(effect, scope)
    return { value, close: Scope.close(scope, Exit.void) }
  })

/** What the server knows of a consumer. */
export const consumerInfo = (nc: NatsConnection, stream: string, name: string) =>
  Effect.promise(async () => (await nc.jetstreamManager()).consumers.info(stream, name))

export const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, i) => from + i)

export const ascending = (numbers: ReadonlyArray<number>): ReadonlyArray<number> => [...numbers].sort((a, b) => a - b)
