/** The bus, as its users have it. */
import { EventBus, FailurePolicy, MemoryTransport, OrderChecker, Strategy, Topic } from "@effect-eventbus/core"
import type { Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { effectful } from "../Handlers.js"
import { type Job, partitions } from "../Job.js"
import { idOf, type Step, step, topic as topicOf } from "../Load.js"
import type { Meter } from "../Meter.js"
import type { TransportName, Work } from "../Workload.js"

export const transport = (
  name: TransportName,
  { kafka, nats, steps }: Pick<Job, "kafka" | "nats" | "steps">
): Layer.Layer<Transport.Transport> => {
  // Only what is measured is loaded: a process in memory has no clients of brokers in its heap.
  const layers: Record<TransportName, () => Promise<Layer.Layer<Transport.Transport, { readonly message: string }>>> = {
    kafka: async () => {
      const { KafkaTransport } = await import("@effect-eventbus/kafka")
      return KafkaTransport.layer({ brokers: kafka, topicDefaults: { partitions } })
    },
    nats: async () => {
      const { NatsTransport } = await import("@effect-eventbus/nats")
      return NatsTransport.layer({ servers: nats, preflight: "off" })
    },
    memory: async () => MemoryTransport.layer({ partitions, maxMessages: Math.max(1_000, steps) })
  }
  return Layer.orDie(Layer.unwrapEffect(Effect.promise(layers[name])))
}

/** Settings are the defaults. */
export const layer = (
  name: TransportName,
  job: Pick<Job, "kafka" | "nats" | "steps" | "system">
): Layer.Layer<EventBus.EventBus> =>
  EventBus.layer.pipe(
    Layer.provide(transport(name, job)),
    Layer.provide(observed(job.system)),
    Layer.provide(dispatching(job.system)),
    Layer.provide(Logger.minimumLogLevel(LogLevel.Warning))
  )

/** The strategy, where the system is one. */
const dispatching = (system: string): Layer.Layer<never> => {
  const found = [Strategy.actorPerAggregate, Strategy.actorPool, Strategy.keyedWorkers].find(({ name }) =>
    name === system
  )
  return found === undefined ? Layer.empty : Strategy.layer(found)
}

/** Who looks at the bus. Only what is measured is loaded. */
const observed = (system: string): Layer.Layer<never> => {
  if (!system.startsWith("ours + ")) return Layer.empty
  return Layer.unwrapEffect(Effect.promise(async (): Promise<Layer.Layer<never>> => {
    const { Health, Metrics, Tracing } = await import("@effect-eventbus/observability")
    if (system === "ours + metrics") return Layer.orDie(Metrics.layer())
    if (system === "ours + health") return Layer.orDie(Health.layer())
    if (system === "ours + no tracer") return Tracing.layer()
    const { tracer } = await import("./Spans.js")
    return Tracing.layer().pipe(Layer.provideMerge(tracer(system === "ours + traces of all" ? 1 : 0.01)))
  }))
}

/** Subscribes; the scope ends it. */
export const consume = (
  system: string,
  topic: string,
  work: Work,
  meter: Meter
): Effect.Effect<void, never, EventBus.EventBus | Scope.Scope> =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const handle = effectful(work, meter)
    const options = { group: `bench-${randomUUID()}`, onExhausted: FailurePolicy.drop }
    if (system === "ours plain") {
      yield* bus.subscribe(
        Topic.plain(topic),
        (body) => handle(stepOf(body)),
        { ...options, semantics: "at-least-once" }
      )
    } else {
      yield* bus.subscribe(topicOf(topic), watched(system, handle), options)
    }
  }).pipe(Effect.orDie)

/** A handler as one has it who looks: with the metrics of the order checker, or with a span. */
const watched = (system: string, handle: ReturnType<typeof effectful>) =>
  system === "ours with metrics"
    ? OrderChecker.observe(OrderChecker.make())(handle)
    : system === "ours with spans"
    ? (step: Step) => Effect.withSpan(handle(step), "handle")
    : handle

/** The body of a plain message is `aggregate sequence`. */
export const bodyOf = (aggregate: number, sequence: number): string => `${aggregate} ${sequence}`

const decoder = new TextDecoder()

const stepOf = (body: Uint8Array): Step => {
  const [aggregate, sequence] = decoder.decode(body).split(" ")
  return step(Number(aggregate), Number(sequence))
}

type Steps = ReadonlyArray<readonly [aggregate: number, sequence: number]>

/** Publishes steps: one by itself, several by `publishAll`. */
export const publisher = (
  topic: string
): Effect.Effect<(steps: Steps) => Effect.Effect<void>, never, EventBus.EventBus> =>
  Effect.map(EventBus.EventBus, (bus) => {
    const to = topicOf(topic)
    const message = ([aggregate, sequence]: Steps[number]) => ({
      aggregateId: idOf(aggregate),
      payload: step(aggregate, sequence)
    })
    return (steps) =>
      steps.length === 1
        ? Effect.orDie(Effect.asVoid(bus.publish(to, message(steps[0]!))))
        : Effect.orDie(Effect.asVoid(bus.publishAll(to, steps.map(message))))
  })

/** The same for plain messages. */
export const plainPublisher = (
  topic: string
): Effect.Effect<(steps: Steps) => Effect.Effect<void>, never, EventBus.EventBus> =>
  Effect.map(EventBus.EventBus, (bus) => {
    const to = Topic.plain(topic)
    return (steps) =>
      Effect.orDie(Effect.asVoid(bus.publishAll(
        to,
        steps.map(([aggregate, sequence]) => ({ aggregateId: idOf(aggregate), body: bodyOf(aggregate, sequence) }))
      )))
  })
