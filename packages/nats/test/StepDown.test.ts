import { EventBus, EventBusConfig, FailurePolicy, Topic, Transport } from "@effect-eventbus/core"
import { OrderOracle } from "@effect-eventbus/testing"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import type { NatsConnection } from "nats"
import { NatsInstance, NatsTransport, Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { relay } from "./relay.js"

const partitions = 4

/** An instance of the group in this process, which remembers what it has handled last. */
const instance = (servers: ReadonlyArray<string>, topic: string, oracle: OrderOracle.OrderOracle) => {
  let handled = 0
  const transport = NatsTransport.layer({ servers, leaseDuration: "15 seconds" })
  return Effect.map(
    T.scoped(Layer.build(
      Topic.plain(topic, { partitions }).toLayer((body, { aggregateId }) => {
        const sequence = Number(new TextDecoder().decode(body))
        return Effect.sync(() => oracle.start(aggregateId!, sequence)).pipe(
          Effect.zipRight(Effect.sleep(Math.random() * 5)),
          Effect.onExit((exit) =>
            Effect.sync(() => {
              handled++
              oracle.end(aggregateId!, sequence, exit._tag === "Success")
            })
          )
        )
      }, { semantics: "at-least-once", onExhausted: FailurePolicy.drop }).pipe(
        Layer.provide(EventBus.layer),
        Layer.provide(EventBusConfig.layer({ drainDeadline: "5 seconds", group: "group" })),
        Layer.provideMerge(transport)
      )
    )),
    ({ close, value }) => ({
      close,
      me: Context.get(value, NatsInstance.NatsInstance),
      handled: () => handled
    })
  )
}

/** Who has each partition, and who is there, by NATS's own client. */
const look = (nc: NatsConnection, topic: string) =>
  Effect.promise(async () => {
    const prefix = Subject.toLease("group", topic)
    const kv = await nc.jetstream().views.kv("eventbus-leases")
    const owners: Array<string | undefined> = []
    for (let partition = 0; partition < partitions; partition++) {
      owners.push((await kv.get(`${prefix}.partition.${partition}`))?.json<{ readonly owner?: string }>().owner)
    }
    return { kv, prefix, owners }
  })

const untilOwners = (nc: NatsConnection, topic: string, count: number) =>
  T.waitUntil(`${count} owners`, async () => {
    const { owners } = await Effect.runPromise(look(nc, topic))
    return !owners.includes(undefined) && new Set(owners).size === count
  })

describe.each(T.versions)("An instance that steps down, on %s", (version) => {
  it(
    "hands over all that it has, in order and without handling anything twice, and comes back when it is told",
    () =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const { servers } = yield* T.server(version)
          const { name } = T.topic("plain")
          const nc = yield* T.client(servers)
          const oracle = new OrderOracle.OrderOracle()
          const service = yield* T.transport(servers)
          const round = Effect.suspend(() =>
            T.publish(
              service,
              { name, kind: "plain", partitions },
              T.range(0, 40).map((i) => {
                const sequence = oracle.publish(`a-${i}`)
                return { ...T.message(sequence, `a-${i}`), id: `${i}/${sequence}` }
              })
            )
          )
          const publisher = yield* Effect.fork(Effect.forever(Effect.delay(Effect.uninterruptible(round), "20 millis")))
          const one = yield* instance(servers, name, oracle)
          const two = yield* instance(servers, name, oracle)
          yield* untilOwners(nc, name, 2)

          yield* one.me.stepDown
          assert.isTrue(yield* one.me.isSteppedDown)
          const left = one.handled()
          yield* untilOwners(nc, name, 1)
          const before = two.handled()
          yield* T.waitUntil("the other handles all", () => two.handled() > before + 200)
          assert.strictEqual(one.handled(), left)

          yield* one.me.stepUp
          yield* untilOwners(nc, name, 2)
          yield* T.waitUntil("it takes part again", () => one.handled() > left + 100)

          // From outside: a key in the bucket.
          const { kv, owners, prefix } = yield* look(nc, name)
          const [id] = [...new Set(owners)]
          yield* Effect.promise(() => kv.put(`${prefix}.aside.${id}`, "true"))
          yield* untilOwners(nc, name, 1)
          assert.notInclude((yield* look(nc, name)).owners, id)
          yield* Effect.promise(() => kv.delete(`${prefix}.aside.${id}`))
          yield* untilOwners(nc, name, 2)

          // Who is alone says what that means.
          yield* two.close
          yield* untilOwners(nc, name, 1)
          yield* one.me.stepDown
          yield* T.waitUntil("it is said", () => lines.some((line) => line.includes("the partitions stay unread")))
          yield* one.me.stepUp
          yield* untilOwners(nc, name, 1)
          yield* Fiber.interrupt(publisher)
          yield* T.waitUntil("all is handled", () => oracle.lost === 0)
          assert.deepStrictEqual(oracle.violations, [])
          assert.strictEqual(oracle.duplicates, 0)
        })
      ),
    60_000
  )

  it("says so in the status, and a subscription that begins meanwhile takes nothing", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const context = yield* Layer.build(NatsTransport.layer({ servers }))
      const me = Context.get(context, NatsInstance.NatsInstance)
      yield* me.stepDown
      const consumer = new T.TestConsumer()
      const source = yield* Effect.flatMap(
        Effect.sync(() => Context.get(context, Transport.Transport)),
        (service) => service.subscribe(T.request(T.topic()), consumer)
      )
      const { partitions, problems } = yield* source.status!
      assert.lengthOf(partitions, 0)
      assert.match(problems[0]!.message, /told to step down/)
      yield* me.stepUp
      yield* T.waitUntil("it takes what is free", () => consumer.assignments.length === 1)
      assert.lengthOf((yield* source.status!).problems, 0)
    })))
})

describe("An instance that is to step down while there is no room for what it would give back", () => {
  it("says how many partitions it still has, reads them, and gives them back when there is room", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const { servers } = yield* T.server()
        let isFull = false
        let refused = 0
        const options = yield* relay(servers, "full", (endpoint) => {
          if (!isFull || !endpoint.startsWith("$KV.")) return "Served"
          refused++
          return "NoRoom"
        })
        const context = yield* Layer.build(
          NatsTransport.layer({ ...options, requestTimeout: "500 millis", leaseRenewInterval: "300 millis" })
        )
        const me = Context.get(context, NatsInstance.NatsInstance)
        const service = Context.get(context, Transport.Transport)
        const topic = { ...T.topic(), partitions: 2 }
        const consumer = new T.TestConsumer()
        const source = yield* service.subscribe(T.request(topic), consumer)
        isFull = true
        yield* T.waitUntil("renewals are refused", () => refused > 2)
        assert.deepStrictEqual(yield* Effect.timeout(me.stepDown, "8 seconds"), { left: 2 })
        assert.isTrue(
          lines.some((line) => line.includes("has not given back all partitions") && line.includes("left=2"))
        )
        yield* T.publish(service, topic, T.messages(0, 10))
        yield* T.waitUntil("it reads on", () => consumer.taken.length === 10)
        isFull = false
        assert.deepStrictEqual(yield* Effect.timeout(me.stepDown, "8 seconds"), { left: 0 })
        assert.lengthOf((yield* source.status!).partitions, 0)
      })
    ))
})
