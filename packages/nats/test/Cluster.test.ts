import * as Servers from "@effect-eventbus/brokers/Nats"
import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber } from "effect"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"

describe.each(T.versions)("Three servers of %s with three replicas", (version) => {
  it(
    "the stream's leader is killed, then connections are cut, under load: nothing is lost, the order holds",
    () =>
      T.run(Effect.gen(function*() {
        const cluster = yield* Servers.make({ version, nodes: 3, own: true })
        const proxies = yield* Effect.forEach(
          cluster.servers,
          (address) => TcpProxy.make({ port: Number(address.split(":")[1]) })
        )
        const servers = proxies.map(({ address }) => address)
        const topic = T.topic()
        const publisher = yield* T.transport(servers, { replicas: 3 })
        const service = yield* T.transport(servers, { replicas: 3 })
        const times: Array<number> = []
        const consumer = new T.TestConsumer({
          onMessage: (message, consumer) => {
            times.push(performance.now())
            setTimeout(() => consumer.finish(message), Math.random() * 10)
          }
        })
        yield* service.subscribe(T.request(topic), consumer)
        let published = 0
        let isOver = false
        const publishing = yield* Effect.suspend(() => {
          const from = published
          published += 50
          return publisher.publish(topic, T.messages(from, published, 50), { timeout: Duration.seconds(40) })
        }).pipe(
          Effect.flatMap(Effect.forEach((result) => Either.isRight(result) ? Effect.void : Effect.fail(result.left))),
          Effect.delay("10 millis"),
          Effect.repeat({ until: () => isOver }),
          Effect.fork
        )
        const came = (count: number) =>
          Effect.raceFirst(
            T.waitUntil(`${count} came`, () => consumer.taken.length >= count),
            Effect.asVoid(Fiber.join(publishing))
          )
        yield* came(1_000)
        const nc = yield* T.client(cluster.servers)
        const jsm = yield* Effect.promise(() => nc.jetstreamManager())
        const info = yield* Effect.promise(() => jsm.streams.info(Subject.toStream(topic.name)))
        assert.strictEqual(info.config.num_replicas, 3)
        // Its name ends with its number.
        const leader = cluster.nodes.find(({ id }) => info.cluster?.leader?.endsWith(`-${id}`) === true)!
        const killedAt = performance.now()
        yield* leader.kill
        yield* came(consumer.taken.length + 2_000)
        const back = performance.now()
        yield* leader.start
        for (const proxy of proxies) {
          yield* proxy.cut
          yield* came(consumer.taken.length + 300)
        }
        // Not by an interruption: of what is interrupted before it is sent, or lost with a connection, nothing is written.
        isOver = true
        yield* Fiber.join(publishing)
        yield* T.waitUntil("all came", () => new Set(consumer.numbers).size >= published)
        const missing = new Set(T.range(0, published))
        for (const n of consumer.numbers) missing.delete(n)
        T.assertNumbers([...missing], [])
        T.assertNoViolations(consumer)
        const during = times.filter((time) => time >= killedAt - 50 && time <= back)
        const pause = Math.max(...during.slice(1).map((time, i) => time - during[i]!))
        console.log(
          `leader killed on ${version}: a pause of ${Math.round(pause)} ms; ${published} published, ` +
            `${consumer.taken.length - published} twice, 0 lost`
        )
      })),
    120_000
  )
})
