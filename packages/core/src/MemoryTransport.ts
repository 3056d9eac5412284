/**
 * The transport inside the process: the default, and what users run their tests on.
 * It behaves like the other two, but nothing outlives the process.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as ConfigSpec from "./ConfigSpec.js"
import { type InvalidConfiguration, MessageTooLarge, PublishFailed } from "./EventBusError.js"
import type { PublishError } from "./EventBusError.js"
import * as Logging from "./internal/logging.js"
import type { Member } from "./internal/memoryGroup.js"
import type { MemoryTopic } from "./internal/memoryLog.js"
import * as MemoryRead from "./internal/memoryRead.js"
import * as MemoryBroker from "./MemoryBroker.js"
import * as Observer from "./Observer.js"
import type * as Transport from "./Transport.js"
import { Transport as TransportTag } from "./Transport.js"
import type { Driver } from "./TransportConfig.js"

const encoder = new TextEncoder()

/**
 * The transport on the provided broker.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Transport.Service, never, MemoryBroker.MemoryBroker> = Effect.suspend(() =>
  Effect.tap(
    transport,
    () => Effect.map(Observer.provided, ({ event }) => event?.({ _tag: "Connected", transport: "memory" }))
  )
)

const transport = Effect.gen(function*() {
  const broker = yield* MemoryBroker.MemoryBroker
  const observer = yield* Observer.provided

  const publish: Transport.Service["publish"] = (spec, messages, { timeout }) =>
    broker.topic(spec).pipe(
      Effect.flatMap((topic) => write(topic, messages, timeout)),
      Effect.catchAll((error) => Effect.succeed(messages.map(() => Either.left(error))))
    )

  const write = (topic: MemoryTopic, messages: ReadonlyArray<Transport.OutgoingMessage>, timeout: Duration.Duration) =>
    Effect.suspend(() => {
      const results: Array<Either.Either<Transport.Receipt, PublishError>> = []
      const appendSome = (): boolean => {
        const touched = new Set<number>()
        while (results.length < messages.length) {
          const message = messages[results.length]!
          const key = message.key ?? (message.aggregateId === undefined ? null : encoder.encode(message.aggregateId))
          // Only the value counts: a dead letter has more headers than its original, and has to pass.
          const size = message.value?.length ?? 0
          if (size > broker.maxMessageBytes) {
            results.push(Either.left(new MessageTooLarge({ topic: topic.name, size, limit: broker.maxMessageBytes })))
            continue
          }
          const index = topic.partitionFor(key)
          if (!topic.hasRoom(index)) break
          results.push(Either.right(topic.append(index, key, message)))
          touched.add(index)
        }
        for (const index of touched) topic.published(index)
        return results.length === messages.length
      }
      // A publisher that waits for room goes first. What is published later must not overtake it.
      if (!topic.isFull && appendSome()) return Effect.succeed(results)
      return Effect.map(
        Effect.timeoutOption(topic.inTurn(appendSome), timeout),
        () => {
          while (results.length < messages.length) {
            results.push(Either.left(
              new PublishFailed({ topic: topic.name, reason: "StorageFull", outcome: "not-written" })
            ))
          }
          return results
        }
      )
    })

  const subscribe: Transport.Service["subscribe"] = (request, consumer) =>
    Effect.gen(function*() {
      const topic = yield* broker.topic(request.topic)
      const { startFrom } = request
      const group = typeof startFrom === "object" && "group" in startFrom
        ? yield* broker.successor(topic, request.group, startFrom.group)
        : broker.group(topic, request.group, startFrom === "latest" ? "latest" : "earliest")
      const member: Member = {
        consumer,
        maxAboveWatermark: request.maxAboveWatermark,
        drainDeadline: request.drainDeadline,
        observer,
        stopped: false
      }
      yield* Effect.acquireRelease(group.join(member), () => group.leave(member))
      return {
        stop: Effect.sync(() => void (member.stopped = true)),
        status: Effect.sync(() => ({ isConnected: true, partitions: group.statusOf(member), problems: [] }))
      }
    })

  const service: Transport.Service = {
    name: "memory",
    capabilities: {
      durable: false,
      binaryHeaders: true,
      tombstones: true,
      partitions: true,
      settlement: "position",
      startAfterGroup: true,
      maxMessageBytes: broker.maxMessageBytes
    },
    publish,
    subscribe,
    read: (request) => Effect.map(broker.topic(request.topic), (topic) => MemoryRead.partitions(topic, request)),
    store: ({ group, name, topic }) => Effect.map(broker.topic(topic), (found) => broker.store(found, group, name).port)
  }
  return service
})

/**
 * A transport on a broker of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: MemoryBroker.Options): Layer.Layer<TransportTag, InvalidConfiguration> =>
  Layer.provide(layerBroker, MemoryBroker.layer(options))

/**
 * A transport on a broker that other transports use, too: for several buses of a test, or a bus that is started again.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerBroker: Layer.Layer<TransportTag, never, MemoryBroker.MemoryBroker> = Layer.scoped(
  TransportTag,
  Effect.gen(function*() {
    // It can't break, and ends with the scope.
    const tell = yield* Observer.connection("memory")
    tell("Connected")
    yield* Effect.forkScoped(Effect.interruptible(Effect.suspend(() => hints)))
    return yield* transport
  })
)

/** In real time, also under a test's clock: nobody has to wait for it. */
const hints = MemoryBroker.MemoryBroker.pipe(
  Effect.flatMap(({ unheard }) => unheard),
  Effect.flatMap(
    Effect.forEach((topic) =>
      Logging.info(
        `Messages are published to the topic "${topic}" in memory, and nobody in this process has subscribed to it`
      ), { discard: true })
  ),
  Effect.delay("2 seconds"),
  Effect.forever,
  Effect.withClock(Clock.make())
)

/**
 * The settings of the memory transport, below `eventbus.memory`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = MemoryBroker.spec

/**
 * The memory transport for `TransportConfig.layer`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const driver: Driver<InvalidConfiguration, never, typeof spec> = {
  spec,
  layer: (values) => layer(ConfigSpec.within("memory", values))
}
