/** The brokers of a run, and what happens to them and to the connections. */
import { type BrokerError, type BrokerNode, Kafka, Nats, TcpProxy } from "@effect-eventbus/brokers"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Disturbance } from "./Circumstances.js"
import * as Log from "./Log.js"
import type { Options } from "./Options.js"
import * as Random from "./Random.js"

export interface Stage {
  /** For the instances' environment. */
  readonly settings: Readonly<Record<string, string>>
  readonly nodes: ReadonlyArray<BrokerNode>
  readonly proxies: ReadonlyArray<TcpProxy.TcpProxy>
}

/** In memory there is nothing that could break. */
export const none: Stage = { settings: {}, nodes: [], proxies: [] }

export const make = (options: Options): Effect.Effect<Stage, BrokerError, Scope.Scope> =>
  options.transport === "kafka" ? kafka(options) : nats(options)

const kafka = ({ cutEverySeconds, nodes: count, sessionTimeoutMs }: Options) =>
  Effect.map(
    Kafka.make({ own: true, nodes: count, proxied: cutEverySeconds !== undefined }),
    ({ bootstrap, nodes, proxies }): Stage => ({
      nodes,
      proxies,
      settings: {
        EVENTBUS_TRANSPORT: "kafka",
        EVENTBUS_KAFKA_BROKERS: bootstrap.join(","),
        EVENTBUS_KAFKA_SESSION_TIMEOUT: `${sessionTimeoutMs} millis`,
        EVENTBUS_KAFKA_HEARTBEAT_INTERVAL: `${Math.round(sessionTimeoutMs / 7)} millis`
      }
    })
  )

const nats = ({ cutEverySeconds, nodes: count, sessionTimeoutMs }: Options) =>
  Effect.gen(function*() {
    const { nodes, servers } = yield* Nats.make({ own: true, nodes: count })
    const proxies = cutEverySeconds === undefined
      ? []
      : yield* Effect.forEach(servers, (server) => TcpProxy.make({ port: Number(server.split(":")[1]) }))
    const stage: Stage = {
      nodes,
      proxies,
      settings: {
        EVENTBUS_TRANSPORT: "nats",
        EVENTBUS_NATS_LEASE_DURATION: `${sessionTimeoutMs} millis`,
        EVENTBUS_NATS_SERVERS: (proxies.length === 0 ? servers : proxies.map(({ address }) => address)).join(","),
        ...(count === 1 ? {} : { EVENTBUS_NATS_REPLICAS: String(count) })
      }
    }
    return stage
  })

export interface Weather {
  readonly say: (line: string) => void
  readonly disturbed: (disturbance: Disturbance) => void
}

/** For how long after a disturbance clients are still finding their way back. */
const aftermath = 3e9

const disturbance = <E>({ disturbed, say }: Weather, what: string, effect: Effect.Effect<void, E>) =>
  Effect.suspend(() => {
    const from = Log.now()
    say(what)
    return Effect.ensuring(effect, Effect.sync(() => disturbed({ from, to: Log.now() + aftermath })))
  })

/** Faults of the network, one after the other, until it is interrupted. */
export const cuts = (
  { proxies }: Stage,
  { cutEverySeconds = 0, seed, sessionTimeoutMs }: Options,
  weather: Weather
) => {
  const random = Random.make(seed, "network")
  const once = Effect.suspend(() => {
    const proxy = Random.pick(random, proxies)
    const kind = Random.pick(random, ["cut", "half-close", "delay", "freeze", "refuse"] as const)
    const wait = Math.round(Random.between(random, 0.1, 1.2) * sessionTimeoutMs)
    const delay = Math.round(Random.between(random, 5, 100))
    switch (kind) {
      case "cut":
        return disturbance(weather, "network: connections cut", proxy.cut)
      case "half-close":
        return disturbance(weather, "network: connections half-closed", proxy.halfClose)
      case "delay":
        return disturbance(
          weather,
          `network: ${delay} ms slower for ${wait} ms`,
          Effect.delay(Effect.void, wait).pipe(
            (during) => Effect.zipRight(proxy.delay(delay), during),
            Effect.zipRight(proxy.delay(0))
          )
        )
      case "freeze":
        return disturbance(
          weather,
          `network: frozen for ${wait} ms`,
          Effect.zipRight(proxy.freeze, Effect.delay(proxy.flow, wait))
        )
      case "refuse":
        return disturbance(
          weather,
          `network: cut and refused for ${wait} ms`,
          Effect.all([proxy.refuse, proxy.cut, Effect.delay(proxy.accept, wait)], { discard: true })
        )
    }
  })
  return Effect.suspend(() => Effect.delay(once, Random.between(random, 0.3, 1.7) * cutEverySeconds * 1_000)).pipe(
    Effect.forever
  )
}

/** Brokers are killed or stopped, and started again with their data, until it is interrupted. */
export const restarts = ({ nodes }: Stage, { restartEverySeconds = 0, seed }: Options, weather: Weather) => {
  const random = Random.make(seed, "brokers")
  const once = Effect.suspend(() => {
    const node = Random.pick(random, nodes)
    const kills = random() < 0.7
    const wait = Math.round(random() * 2_000)
    return disturbance(
      weather,
      `broker ${node.id}: ${kills ? "killed" : "stopped"}, back after ${wait} ms`,
      (kills ? node.kill : node.stop).pipe(Effect.zipRight(Effect.delay(node.start, wait)))
    )
  })
  return Effect.suspend(() => Effect.delay(once, Random.between(random, 0.5, 1.5) * restartEverySeconds * 1_000)).pipe(
    Effect.forever
  )
}

/** Whatever was in the middle of it: all brokers run, and the connections are as good as before. */
export const mend = ({ nodes, proxies }: Stage, { disturbed }: Weather) =>
  Effect.suspend(() => {
    const from = Log.now()
    return Effect.zipRight(
      Effect.forEach(proxies, (proxy) => Effect.all([proxy.delay(0), proxy.flow, proxy.accept]), { discard: true }),
      Effect.forEach(nodes, (node) => node.start, { concurrency: "unbounded", discard: true })
    ).pipe(Effect.ensuring(Effect.sync(() => disturbed({ from, to: Log.now() + aftermath }))))
  })
