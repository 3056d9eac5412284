import type { TcpProxy } from "@effect-eventbus/brokers"
import type { Transport } from "@effect-eventbus/core"
import { OrderOracle } from "@effect-eventbus/testing"
import { it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber } from "effect"
import { describe, expect } from "vitest"
import {
  committed,
  eventually,
  makeConsumer,
  message,
  numbered,
  ownCluster,
  published,
  request,
  spec,
  text,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

const isLong = process.env["TEST_LONG"] === "1"
/** How long the network is bad. */
const WEATHER_MS = isLong ? 60_000 : 6_000
/** The partitions whose leaders are killed, one after the other. */
const HURT = isLong ? [0, 1, 2, 3] : [0]
const KEYS = 60
/** A cluster has elected other leaders long before, also on a busy machine: what is judged is what became of the messages. */
const PATIENCE = Duration.seconds(90)

/** Publishes without a pause, and notes what was confirmed and what may have been written. */
const publishing = (service: Transport.Service, topic: Transport.TopicSpec, oracle: OrderOracle.OrderOracle) => {
  const confirmed = new Set<string>()
  const unknown = new Set<string>()
  const publish = Effect.gen(function*() {
    const batch = Array.from({ length: KEYS }, (_, i) => `key-${i}`).map((key) => ({ key, n: oracle.publish(key) }))
    const results = yield* service.publish(
      topic,
      batch.map(({ key, n }) => message(key, String(n))),
      { timeout: PATIENCE }
    )
    results.forEach((result, i) => {
      const name = `${batch[i]!.key}/${batch[i]!.n}`
      if (Either.isRight(result)) confirmed.add(name)
      else unknown.add(`${name} ${result.left.message}`)
    })
    yield* Effect.sleep("10 millis")
  })
  return { confirmed, unknown, run: Effect.forever(publish) }
}

/** Handles everything at once, judged by the oracle, and remembers the longest time in which nothing was handled. */
const judged = (oracle: OrderOracle.OrderOracle) => {
  const seen = new Map<string, number>()
  const pause = { longest: 0, last: 0 }
  const consumer = makeConsumer({
    onTake: ({ assignment }, one) => {
      const now = performance.now()
      if (pause.last > 0) pause.longest = Math.max(pause.longest, now - pause.last)
      pause.last = now
      const key = text(one.key)
      const n = Number(text(one.value))
      oracle.start(key, n)
      oracle.end(key, n, true)
      seen.set(`${key}/${n}`, (seen.get(`${key}/${n}`) ?? 0) + 1)
      assignment.finish(one)
    }
  })
  return { ...consumer, seen, pause }
}

/** Everything in the topic, by another member of another group. */
const readAgain = (service: Transport.Service, topic: Transport.TopicSpec, names: ReadonlySet<string>) =>
  Effect.gen(function*() {
    const found: Array<string> = []
    const left = new Set(names)
    const { consumer } = makeConsumer({
      onTake: ({ assignment }, one) => {
        const name = `${text(one.key)}/${text(one.value)}`
        found.push(name)
        left.delete(name)
        assignment.finish(one)
      }
    })
    yield* service.subscribe(request(topic, { group: "again" }), consumer)
    yield* eventually("all that was confirmed is in the topic", () => left.size === 0, PATIENCE)
    return found
  })

const inOrder = (found: ReadonlyArray<string>) => {
  const last = new Map<string, number>()
  return found.every((name) => {
    const [key, n] = name.split("/") as [string, string]
    const isNext = Number(n) > (last.get(key) ?? -1)
    last.set(key, Number(n))
    return isNext
  })
}

const leaderOf = (topic: string, partition: number, brokers: ReadonlyArray<string>) =>
  withAdmin(
    async (admin) =>
      (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions
        .find(({ partitionId }) => partitionId === partition)!.leader,
    brokers
  )

describe("three brokers, with three replicas", () => {
  const cluster = ownCluster({
    nodes: 3,
    proxied: true,
    // Nothing moves by itself on a busy machine: whose broker is silent or dead is chosen by who coordinates and who leads.
    config: { "broker.session.timeout.ms": "9000", "auto.leader.rebalance.enable": "false" }
  })

  const connect = (more = {}) =>
    transport({
      brokers: cluster().bootstrap,
      requestTimeout: Duration.seconds(3),
      connectionTimeout: Duration.seconds(2),
      ...more
    }).pipe(
      // Three brokers on a busy machine may be silent for longer, after what was done to them.
      Effect.retry({ times: 4 })
    )

  /** Publishes and handles all the time, and judges in the end what became of it. */
  const underLoad = Effect.gen(function*() {
    const topic = spec(topicName(), 6)
    // However long it takes to elect others, the member keeps what it has: only a session that is lost makes duplicates.
    const service = yield* connect({ sessionTimeout: Duration.minutes(2) })
    const oracle = new OrderOracle.OrderOracle()
    const { all, consumer, lanes, pause, seen } = judged(oracle)
    yield* service.subscribe(request(topic), consumer)
    const { confirmed, run, unknown } = publishing(service, topic, oracle)
    const publisher = yield* Effect.forkScoped(run)
    const flows = (what: string) =>
      Effect.suspend(() => {
        const before = all().length
        return eventually(what, () => all().length > before + 20 * KEYS, PATIENCE)
      })
    const end = (name: string) =>
      Effect.gen(function*() {
        yield* Fiber.interrupt(publisher)
        yield* eventually(
          "all that was confirmed is handled",
          () => [...confirmed].every((name) => seen.has(name)),
          PATIENCE
        )
        const found = yield* readAgain(service, topic, confirmed)
        console.log(
          `${name}: ${confirmed.size} confirmed, ${unknown.size} not, ${seen.size} handled, ` +
            `${oracle.violations.length} violations, ${oracle.duplicates} duplicates, ` +
            `longest pause ${Math.round(pause.longest)} ms`
        )
        expect([...unknown]).toEqual([])
        expect(oracle.violations).toEqual([])
        expect(oracle.duplicates).toBe(0)
        expect(new Set(found).size).toBe(found.length)
        expect(inOrder(found)).toBe(true)
      })
    return { topic, lanes, flows, end }
  })

  it.scopedLive(
    "leaders and coordinators that are killed and come back: nothing is lost, out of order or written twice",
    () =>
      Effect.gen(function*() {
        const { end, flows, lanes, topic } = yield* underLoad
        for (const partition of HURT) {
          yield* flows("messages flow")
          const leader = yield* leaderOf(topic.name, partition, cluster().bootstrap)
          const node = cluster().nodes.find(({ id }) => id === leader)!
          // Also where this test fails: the next ones need all brokers.
          yield* Effect.acquireRelease(node.kill, () => Effect.orDie(node.start))
          yield* flows("without it, too")
          yield* node.start
        }
        yield* flows("and when all are back")
        yield* end("failover")
        // The member keeps what it has.
        expect(lanes).toHaveLength(6)
      }),
    240_000
  )

  it.scopedLive(
    "connections that are cut, slow, silent and half-closed: the same",
    () =>
      Effect.gen(function*() {
        const { end, flows } = yield* underLoad
        yield* flows("messages flow")
        const turn = (proxy: TcpProxy.TcpProxy) => [
          proxy.cut,
          Effect.zipRight(proxy.delay(150), Effect.zipRight(Effect.sleep("600 millis"), proxy.delay(0))),
          proxy.halfClose,
          Effect.zipRight(proxy.blackhole, Effect.zipRight(Effect.sleep("600 millis"), proxy.flow)),
          Effect.zipRight(
            proxy.blackhole,
            Effect.zipRight(Effect.sleep("200 millis"), Effect.zipRight(proxy.cut, proxy.flow))
          )
        ]
        yield* Effect.addFinalizer(() =>
          Effect.forEach(cluster().proxies, (proxy) => Effect.zipRight(proxy.delay(0), proxy.flow), { discard: true })
        )
        const until = Date.now() + WEATHER_MS
        let turns = 0
        while (Date.now() < until) {
          const proxy = cluster().proxies[turns % 3]!
          yield* turn(proxy)[turns % 5]!
          yield* Effect.sleep("200 millis")
          turns++
        }
        yield* flows("messages flow again")
        yield* end(`bad network, ${turns} faults`)
      }),
    WEATHER_MS + 120_000
  )

  /** The index of the broker that coordinates the group. */
  const coordinatorOf = (group: string) =>
    withAdmin(async (admin) => {
      const hash = [...group].reduce((hash, char) => (Math.imul(31, hash) + char.charCodeAt(0)) | 0, 0)
      const { topics } = await admin.fetchTopicMetadata({ topics: ["__consumer_offsets"] })
      const { leader } = topics[0]!.partitions.find(({ partitionId }) => partitionId === (hash & 0x7fffffff) % 4)!
      return cluster().nodes.findIndex(({ id }) => id === leader)
    }, cluster().bootstrap)

  /** A broker that does not coordinate the group: the members of a group are not what this is about. */
  const bystander = (group: string) => Effect.map(coordinatorOf(group), (index) => (index + 1) % 3)

  for (const how of ["silent", "dead"] as const) {
    it.scopedLive(
      `partitions whose leader is ${how} hold up no others: each begins when its own leader answers`,
      () =>
        Effect.gen(function*() {
          const topic = spec(topicName(), 3)
          const service = yield* connect()
          // Who coordinates groups is known once there has been one.
          yield* Effect.scoped(service.subscribe(request(spec()), makeConsumer().consumer))
          yield* withAdmin((admin) =>
            admin.createTopics({
              topics: [{
                topic: topic.name,
                replicaAssignment: cluster().nodes.map(({ id }, partition) => ({ partition, replicas: [id] })),
                configEntries: [{ name: "min.insync.replicas", value: "1" }]
              }]
            }), cluster().bootstrap)
          yield* published(service, topic, Array.from({ length: 30 }, (_, i) => message(undefined, String(i))))
          const victim = yield* bystander(`tests.${topic.name}`)
          const { all, consumer, lanes } = makeConsumer({
            onTake: ({ assignment }, one) => assignment.finish(one)
          })
          const [hurt, heal] = how === "dead"
            ? [cluster().nodes[victim]!.kill, cluster().nodes[victim]!.start]
            : [cluster().proxies[victim]!.blackhole, cluster().proxies[victim]!.flow]
          yield* Effect.acquireRelease(hurt, () => Effect.orDie(heal))
          const source = yield* service.subscribe(request(topic), consumer).pipe(
            // A coordinator that moved to the broker that is hurt is another story: then nobody could begin.
            Effect.catchAll((error) =>
              Effect.zipRight(Effect.orDie(heal), coordinatorOf(`tests.${topic.name}`)).pipe(
                Effect.flatMap((now) =>
                  Effect.die(
                    new Error(`broker ${victim} was ${how}, ${now} coordinates the group: ${error.message}`, {
                      cause: error
                    })
                  )
                )
              )
            )
          )
          const problem = Effect.map(source.status!, ({ problems }) =>
            problems.map(({ message }) => message).find((message) => message.includes("can't begin")))
          yield* eventually("the others are read", () =>
            all().length === 20)
          expect(lanes).toHaveLength(2)
          if (how === "dead") {
            const said = Effect.repeat(Effect.delay(problem, "20 millis"), {
              until: (message) => message !== undefined
            })
            expect(yield* Effect.timeout(said, "20 seconds")).toContain(`Partition ${victim} of`)
          }
          yield* heal
          yield* eventually("then the last one", () => all().length === 30, "60 seconds")
          expect(yield* problem).toBeUndefined()
          expect(lanes.map(({ assignment }) => assignment.partition).at(-1)).toBe(victim)
        }),
      120_000
    )
  }

  it.scopedLive(
    "a commit that was held up in the network does not undo a later one",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* connect({ requestTimeout: Duration.seconds(1), sessionTimeout: Duration.seconds(20) })
        yield* published(service, topic, numbered(10))
        const { all, consumer, lane } = makeConsumer()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("all arrive", () => all().length === 10)
        const finish = (until: number) => {
          for (const one of lane(0).taken) if (one.offset < until) lane(0).assignment.finish(one)
        }
        const commit = Effect.map(committed(topic.name, 0, "tests", cluster().bootstrap), ({ offset }) => offset)
        yield* Effect.acquireRelease(
          Effect.forEach(cluster().proxies, (proxy) => proxy.freeze, { discard: true }),
          () => Effect.forEach(cluster().proxies, (proxy) => proxy.flow, { discard: true })
        )
        finish(3)
        // The commit of 3 is on its way, and given up.
        yield* Effect.sleep("1500 millis")
        finish(10)
        const isCommitted = Effect.delay(commit, "50 millis").pipe(Effect.repeat({ until: (offset) => offset === 10 }))
        yield* Effect.timeout(isCommitted, "30 seconds")
        yield* Effect.sleep("1 second")
        yield* Effect.forEach(cluster().proxies, (proxy) => proxy.flow, { discard: true })
        for (let i = 0; i < 10; i++) {
          yield* Effect.sleep("100 millis")
          expect(yield* commit).toBe(10)
        }
      }),
    60_000
  )

  it.scopedLive(
    "a partition whose leader comes back while its owner joins again begins in the new generation only, and once",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 4)
        const group = `tests.${topic.name}`
        const service = yield* connect()
        // Who coordinates groups is known once there has been one.
        yield* Effect.scoped(service.subscribe(request(spec()), makeConsumer().consumer))
        const victim = yield* bystander(group)
        const others = cluster().nodes.filter((_, i) => i !== victim)
        const leaders = [others[0]!, others[0]!, others[1]!, cluster().nodes[victim]!]
        yield* withAdmin((admin) =>
          admin.createTopics({
            topics: [{
              topic: topic.name,
              replicaAssignment: leaders.map(({ id }, partition) => ({ partition, replicas: [id] })),
              configEntries: [{ name: "min.insync.replicas", value: "1" }]
            }]
          }), cluster().bootstrap)
        const proxy = cluster().proxies[victim]!
        yield* Effect.addFinalizer(() => proxy.accept)
        const running = new Set<string>()
        const overlaps: Array<string> = []
        /** Takes its time to end the last partition, and finds out who has that one besides. */
        const member = (name: string, onClose: (partition: number) => Effect.Effect<void> = () => Effect.void) => {
          const inner = makeConsumer({
            onClose: ({ assignment: { partition } }) =>
              Effect.zipRight(
                onClose(partition),
                partition < 3 ? Effect.void : Effect.zipRight(
                  Effect.sleep("1 second"),
                  Effect.sync(() => running.delete(name))
                )
              )
          })
          const consumer: Transport.Consumer = {
            assigned: (assignment) => {
              if (assignment.partition === 3) {
                running.add(name)
                if (running.size > 1) overlaps.push([...running].join(" and "))
              }
              return inner.consumer.assigned(assignment)
            }
          }
          return { ...inner, consumer }
        }
        const drainDeadline = Duration.seconds(2)
        const quick = { heartbeatInterval: Duration.millis(100), requestTimeout: Duration.millis(800) }
        // It hears late that others join, and keeps them waiting.
        const slow = member("slow", (partition) =>
          partition === 3 ? Effect.zipRight(proxy.refuse, proxy.cut) : Effect.void)
        const first = yield* connect({
          sessionTimeout: Duration.seconds(12),
          heartbeatInterval: Duration.seconds(5)
        })
        yield* first.subscribe(request(topic, { drainDeadline }), slow.consumer)
        yield* eventually("it has all", () =>
          slow.open().length === 4)
        const owner = member("owner")
        const second = yield* connect(quick)
        yield* second.subscribe(request(topic, { drainDeadline }), owner.consumer)
        yield* eventually("it has what can begin of its share", () =>
          owner.open().map(({ assignment }) =>
            assignment.partition
          ).join() === "2", "40 seconds")
        const last = member("last")
        const third = yield* connect(quick)
        const subscribing = yield* Effect.fork(third.subscribe(request(topic, { drainDeadline }), last.consumer))
        const reachable = cluster().bootstrap.filter((_, i) =>
          i !== victim
        )
        const state = withAdmin((admin) => admin.describeGroups([group]), reachable)
        const isJoining = Effect.map(state, ({ groups: [found] }) =>
          // Or has joined already: the first one's heartbeat was due.
          found!.state === "PreparingRebalance" || found!.members.length === 3).pipe(
            // The client may try the broker that is not to be reached, and goes on doing so for half a minute.
            Effect.catchAllDefect(() => Effect.succeed(false)),
            Effect.timeoutTo({ duration: "2 seconds", onSuccess: (is) => is, onTimeout: () => false })
          )
        while (!(yield* isJoining)) yield* Effect.sleep("20 millis")
        // It joins with its next heartbeat, which is a tenth of a second away, or later on a busy machine. The first one keeps them waiting.
        yield* Effect.sleep("1500 millis")
        yield* proxy.accept
        yield* Fiber.join(subscribing)
        yield* eventually("all are handled by somebody", () =>
          [slow, owner, last].flatMap((member) => member.open()).length === 4, "40 seconds")
        expect(overlaps).toEqual([])
        expect(owner.lanes.map(({ assignment }) =>
          assignment.partition
        )).toEqual([2])
      }),
    150_000
  )
})
