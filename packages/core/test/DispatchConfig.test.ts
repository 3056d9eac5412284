import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryTransport,
  PredecessorDispatch,
  Strategy,
  Topic,
  TransportConfig
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Layer, Logger, LogLevel, Schema } from "effect"

const env = (variables: Record<string, string>) =>
  ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })

const topic = Topic.envelope("orders", Schema.TaggedStruct("Placed", { n: Schema.Int }))

/** What a bus says of its strategy: at its start, by its dispatch, and when somebody subscribes. */
const started = (
  provider: ConfigProvider.ConfigProvider,
  below: Layer.Layer<never, unknown> = PredecessorDispatch.layer()
) => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => {
    if (/Dispatch:/.test(String(message))) lines.push(String(message))
  })
  const bus = EventBus.layer.pipe(
    Layer.provide(below),
    Layer.provide(TransportConfig.layer({ memory: MemoryTransport.driver }))
  )
  return Effect.gen(function*() {
    const { dispatch, subscribe } = yield* EventBus.EventBus
    const { strategy } = yield* dispatch.report
    const subscribed = yield* Effect.either(subscribe(topic, () => Effect.void, { onExhausted: FailurePolicy.drop }))
    return {
      name: strategy.name,
      slots: strategy.slots === "per-aggregate" ? undefined : strategy.slots.count,
      capacity: strategy.capacity,
      restart: strategy.restart,
      lines,
      issues: Either.isLeft(subscribed) && "issues" in subscribed.left ? subscribed.left.issues : []
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(bus),
    Effect.withConfigProvider(provider),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Logger.withMinimumLogLevel(LogLevel.Debug)
  )
}

const issuesOf = (provider: ConfigProvider.ConfigProvider, options?: PredecessorDispatch.Options) =>
  Effect.flip(started(provider, PredecessorDispatch.layer(options))).pipe(
    Effect.map((error) => (error as { readonly issues: ReadonlyArray<string> }).issues)
  )

describe("the setting dispatch", () => {
  for (const name of ["actor-per-aggregate", "actor-pool", "keyed-workers"] as const) {
    it.effect(`EVENTBUS_DISPATCH=${name} is the strategy of that name, and is logged`, () =>
      Effect.gen(function*() {
        const { issues, lines, name: found, slots } = yield* started(env({ EVENTBUS_DISPATCH: name }), Layer.empty)
        expect(found).toBe(name)
        expect(slots).toBe(name === "actor-per-aggregate" ? undefined : 256)
        expect(issues).toEqual([])
        expect(lines).toEqual([expect.stringMatching(new RegExp(`^Dispatch: ${name} .*EVENTBUS_DISPATCH`))])
      }))
  }

  it.effect("has its own size", () =>
    Effect.gen(function*() {
      const found = yield* started(env({ EVENTBUS_DISPATCH: "actor-pool", EVENTBUS_POOL_SIZE: "32" }), Layer.empty)
      expect(found).toMatchObject({ name: "actor-pool", slots: 32, issues: [] })
    }))

  it.effect("is an actor per aggregate by default", () =>
    Effect.gen(function*() {
      const { lines, name } = yield* started(env({}), Layer.empty)
      expect(name).toBe("actor-per-aggregate")
      expect(lines).toEqual([expect.stringMatching(/by default$/)])
    }))

  it.effect("with a size that nothing would use is an error, and a word of another kind, too", () =>
    Effect.gen(function*() {
      expect((yield* started(env({ EVENTBUS_POOL_SIZE: "32" }), Layer.empty)).issues).toEqual([
        expect.stringContaining("poolSize: actor-per-aggregate has no pool")
      ])
      expect(yield* issuesOf(env({ EVENTBUS_DISPATCH: "actors" }))).toEqual([
        "EVENTBUS_DISPATCH: expected one of actor-per-aggregate, actor-pool, keyed-workers, got actors"
      ])
    }))

  it.effect("and a strategy in code that disagree are an error that names both, and nothing can be subscribed", () =>
    Effect.gen(function*() {
      const { issues, lines } = yield* started(
        env({ EVENTBUS_DISPATCH: "actor-pool" }),
        Strategy.layer(Strategy.keyedWorkers)
      )
      expect(issues).toEqual([
        "the setting eventbus.dispatch (EVENTBUS_DISPATCH) says actor-pool, and the Strategy that the program provides says keyed-workers"
      ])
      expect(lines).toEqual([expect.stringContaining(issues[0]!)])
    }))
})

describe("the predecessor's settings", () => {
  for (const broker of ["kafka", "nats"]) {
    const upper = broker.toUpperCase()
    it.effect(`${upper}_USE_ACTOR_POOL chooses`, () =>
      Effect.gen(function*() {
        const pool = yield* started(env({ [`${upper}_USE_ACTOR_POOL`]: "true" }))
        expect(pool).toMatchObject({ name: "actor-pool", slots: 256, restart: undefined, issues: [] })
        expect(pool.lines).toEqual([expect.stringContaining(`from ${upper}_USE_ACTOR_POOL`)])
        expect(yield* started(env({ [`${upper}_USE_ACTOR_POOL`]: "false" }))).toMatchObject({
          name: "keyed-workers",
          slots: 256,
          restart: "never",
          issues: []
        })
      }))

    it.effect(`${broker}.actor_pool in JSON has its numbers`, () =>
      Effect.gen(function*() {
        const json = ConfigProvider.fromJson({
          [broker]: { actor_pool: { enabled: true, pool_size: 64, inbox_size: 10, max_restarts: 0 } }
        })
        expect(yield* started(json)).toMatchObject({
          name: "actor-pool",
          slots: 64,
          capacity: 10,
          restart: 0,
          issues: []
        })
      }))

    it.effect(`${upper}_ACTOR_… are the numbers, too`, () =>
      Effect.gen(function*() {
        const variables = {
          [`${upper}_USE_ACTOR_POOL`]: "true",
          [`${upper}_ACTOR_POOL_SIZE`]: "64",
          [`${upper}_ACTOR_INBOX_SIZE`]: "10",
          [`${upper}_ACTOR_MAX_RESTARTS`]: "5"
        }
        const found = yield* started(env(variables))
        expect(found).toMatchObject({ name: "actor-pool", slots: 64, capacity: 10, restart: 5, issues: [] })
        for (const name of Object.keys(variables)) expect(found.lines[0]).toContain(name)
      }))
  }

  it.effect("that are not there leave the bus as it is", () =>
    Effect.gen(function*() {
      const found = yield* started(env({ EVENTBUS_DISPATCH: "keyed-workers" }))
      expect(found).toMatchObject({ name: "keyed-workers", issues: [] })
    }))

  it.effect("are not read without the layer", () =>
    Effect.gen(function*() {
      expect((yield* started(env({ KAFKA_USE_ACTOR_POOL: "true" }), Layer.empty)).name).toBe("actor-per-aggregate")
    }))

  const twice = ConfigProvider.orElse(
    env({ KAFKA_USE_ACTOR_POOL: "true", NATS_USE_ACTOR_POOL: "false" }),
    () => ConfigProvider.fromJson({ kafka: { actor_pool: { enabled: false } } })
  )

  it.effect("that disagree are an error that names both", () =>
    Effect.gen(function*() {
      expect(yield* issuesOf(twice)).toEqual([
        "KAFKA_USE_ACTOR_POOL is true, and kafka.actor_pool.enabled is false: they disagree",
        "KAFKA_USE_ACTOR_POOL is true, and NATS_USE_ACTOR_POOL is false: they disagree"
      ])
      expect((yield* started(twice, PredecessorDispatch.layer({ of: "nats" }))).name).toBe("keyed-workers")
    }))

  it.effect("and the bus's own that disagree are, too", () =>
    Effect.gen(function*() {
      const found = yield* started(env({
        KAFKA_USE_ACTOR_POOL: "true",
        KAFKA_ACTOR_POOL_SIZE: "64",
        KAFKA_ACTOR_INBOX_SIZE: "10",
        KAFKA_ACTOR_MAX_RESTARTS: "5",
        EVENTBUS_DISPATCH: "keyed-workers",
        EVENTBUS_POOL_SIZE: "32",
        EVENTBUS_MAILBOX_CAPACITY: "20",
        EVENTBUS_RESTART_TIMES: "2"
      }))
      expect(found.issues).toEqual(
        [["DISPATCH", "keyed-workers"], ["POOL_SIZE", "32"], ["MAILBOX_CAPACITY", "20"], ["RESTART_TIMES", "2"]].map((
          [name, value]
        ) => expect.stringMatching(new RegExp(`EVENTBUS_${name}\\) says ${value}, and KAFKA_USE_ACTOR_POOL`)))
      )
    }))

  it.effect("that are wrong, or don't say whether there is a pool, are errors", () =>
    Effect.gen(function*() {
      expect(yield* issuesOf(env({ KAFKA_USE_ACTOR_POOL: "maybe", NATS_ACTOR_POOL_SIZE: "0" }))).toEqual([
        "KAFKA_USE_ACTOR_POOL: expected true or false, got maybe",
        "NATS_ACTOR_POOL_SIZE: expected a whole number of at least 1, got 0"
      ])
      expect(yield* issuesOf(env({ KAFKA_ACTOR_POOL_SIZE: "64" }))).toEqual([
        expect.stringContaining("KAFKA_ACTOR_POOL_SIZE: set, but KAFKA_USE_ACTOR_POOL or NATS_USE_ACTOR_POOL")
      ])
    }))

  it.effect("a bus whose settings are the defaults in code takes them", () =>
    Effect.gen(function*() {
      const bus = EventBus.layer.pipe(
        Layer.provide(PredecessorDispatch.layer()),
        Layer.provide(MemoryTransport.layer()),
        Layer.provide(EventBusConfig.layer({ dispatch: "actor-pool", poolSize: 256 }))
      )
      const { strategy } = yield* Effect.flatMap(EventBus.EventBus, ({ dispatch }) => dispatch.report).pipe(
        Effect.provide(bus),
        Effect.withConfigProvider(env({ NATS_USE_ACTOR_POOL: "yes" }))
      )
      expect(strategy.name).toBe("actor-pool")
    }))
})
