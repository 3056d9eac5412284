/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { cp, mkdir, writeFile } from "node:fs/promises"
import { basename, join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as BrokerNode from "./BrokerNode.js"
import * as Docker from "./Docker.js"
import * as External from "./External.js"
import * as KafkaConfig from "./KafkaConfig.js"
import * as KafkaPackage from "./KafkaPackage.js"
import * as KafkaProbe from "./KafkaProbe.js"
import * as Ports from "./Ports.js"
import * as TcpProxy from "./TcpProxy.js"
import * as TempFolder from "./TempFolder.js"

/**
 * Running Kafka brokers.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaCluster {
  /** host:port of every node, as clients use it. */
  readonly bootstrap: ReadonlyArray<string>
  /** Empty for brokers from the environment: they aren't ours to kill. */
  readonly nodes: ReadonlyArray<BrokerNode.BrokerNode>
  /** One before each node, in the order of `nodes`; empty unless `proxied` was asked for. */
  readonly proxies: ReadonlyArray<TcpProxy.TcpProxy>
  readonly external: boolean
  /** What a node keeps on disk, for who wants to damage it; `undefined` where that is not a folder of this machine. */
  readonly dataOf: (node: number) => string | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Such as `3.9.1`; by default what `TEST_KAFKA_VERSION` says, or else `KafkaPackage.defaultVersion`. */
  readonly version?: string | undefined
  /** Default 1; with 3 each is controller and broker, and internal topics have 3 replicas. */
  readonly nodes?: 1 | 3 | undefined
  /** More lines for each broker's server.properties; they win over ours. */
  readonly config?: Readonly<Record<string, string>> | undefined
  /** The JVM's largest heap; default 512m. */
  readonly heap?: string | undefined
  /** More flags for the JVM. Ours start quickly; `-XX:TieredStopAtLevel=4` makes a long benchmark's broker faster. */
  readonly jvm?: ReadonlyArray<string> | undefined
  /** Clients reach each node through a {@link TcpProxy.TcpProxy}, which is the address that it advertises. */
  readonly proxied?: boolean | undefined
  /** Never brokers from the environment: the test wants to kill them. Any other option implies it. Default false. */
  readonly own?: boolean | undefined
}

/**
 * Brings up Kafka in KRaft mode; it ends with the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<KafkaCluster, BrokerError, Scope.Scope> =>
  Effect.suspend((): Effect.Effect<KafkaCluster, BrokerError, Scope.Scope> => {
    const bootstrap = External.addresses("TEST_KAFKA_BROKERS", options)
    return bootstrap === undefined
      ? BrokerNode.againOnPortClash(started(options))
      : Effect.as(
        External.reachable("kafka", bootstrap, KafkaProbe.metadata),
        { bootstrap, nodes: [], proxies: [], external: true, dataOf: () => undefined }
      )
  })

const started = (options: Options): Effect.Effect<KafkaCluster, BrokerError, Scope.Scope> =>
  Effect.gen(function*() {
    const count = options.nodes ?? 1
    const docker = yield* Docker.available
    const launch = docker ? inContainer : inProcess(yield* KafkaPackage.get(versionOf(options)))
    const folder = yield* TempFolder.make("kafka")
    const network = docker ? yield* Docker.network(folder) : ""
    const ports = yield* Ports.take(count * 3)
    const proxies = options.proxied === true
      ? yield* Effect.forEach(Array.from({ length: count }), (_, index) => TcpProxy.make({ port: ports[index * 3]! }))
      : []
    const members = Array.from({ length: count }, (_, index): KafkaConfig.Member => ({
      id: index + 1,
      host: docker ? `${basename(folder)}-${index + 1}` : "127.0.0.1",
      client: ports[index * 3]!,
      internal: ports[index * 3 + 1]!,
      controller: ports[index * 3 + 2]!,
      advertised: proxies[index]?.address ?? `127.0.0.1:${ports[index * 3]!}`
    }))
    const cluster: Cluster = { members, folder, network, clusterId: uuid(), options }
    const launches = yield* Effect.forEach(members, (member) =>
      Effect.map(launch(cluster, member), (how): BrokerNode.Options => ({
        broker: "kafka",
        id: member.id,
        address: member.advertised,
        folder,
        probe: probe(cluster, member),
        ...how
      })))
    const nodes = yield* BrokerNode.startAll(launches)
    return {
      bootstrap: members.map((member) =>
        member.advertised
      ),
      nodes,
      proxies,
      external: false,
      dataOf: (node) => docker ? undefined : join(folder, `node-${node}`, "data")
    }
  })

interface Cluster {
  readonly clusterId: string
  readonly folder: string
  readonly members: ReadonlyArray<KafkaConfig.Member>
  readonly network: string
  readonly options: Options
}

type Launch = Pick<BrokerNode.Options, "command" | "args" | "container">

/** Ready is a broker that is unfenced (it lists itself) in our cluster, under a controller. */
const probe = ({ clusterId }: Cluster, member: KafkaConfig.Member) =>
  Effect.flatMap(
    KafkaProbe.metadata(member.internal),
    (found) =>
      found.clusterId === clusterId && found.controllerId >= 0 && found.brokers.includes(member.id)
        ? Effect.void
        : new BrokerError({
          broker: "kafka",
          reason: "NotReady",
          detail: `not in its cluster: ${JSON.stringify(found)}`
        })
  )

const file = <A>(f: () => Promise<A>) =>
  Effect.tryPromise({ try: f, catch: system("kafka", "its folder can't be written") })

const versionOf = (options: Options): string =>
  options.version ?? process.env["TEST_KAFKA_VERSION"] ?? KafkaPackage.defaultVersion

const heapOf = (options: Options) => options.heap ?? "512m"

/**
 * The folder that `kafka-storage format` would make, without its JVM (over a second for each node): what it
 * has is the formatter's own, and meta.properties says which node of which cluster this is.
 */
const inProcess = (kafka: KafkaPackage.KafkaPackage) => (cluster: Cluster, member: KafkaConfig.Member) =>
  Effect.as(
    file(async () => {
      const home = join(cluster.folder, `node-${member.id}`)
      const data = join(home, "data")
      await cp(kafka.formatted, data, { recursive: true })
      await writeFile(
        join(data, "meta.properties"),
        `version=1\nnode.id=${member.id}\ncluster.id=${cluster.clusterId}\ndirectory.id=${uuid()}\n`
      )
      await writeFile(
        join(home, "server.properties"),
        KafkaConfig.render(member, cluster.members, { bind: "127.0.0.1", data, more: cluster.options.config })
      )
    }),
    {
      command: kafka.java,
      args: [
        "-Xms256m",
        `-Xmx${heapOf(cluster.options)}`,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ...(cluster.options.jvm ?? []),
        "-cp",
        kafka.classpath,
        "kafka.Kafka",
        join(cluster.folder, `node-${member.id}`, "server.properties")
      ]
    } satisfies Launch
  )

const inContainer = (cluster: Cluster, member: KafkaConfig.Member): Effect.Effect<Launch, BrokerError> =>
  Effect.gen(function*() {
    const config = join(cluster.folder, `node-${member.id}`)
    const inside = "/etc/eventbus/server.properties"
    yield* file(async () => {
      await mkdir(config)
      await writeFile(
        join(config, "server.properties"),
        KafkaConfig.render(member, cluster.members, {
          bind: "0.0.0.0",
          data: "/tmp/eventbus-data",
          more: cluster.options.config
        })
      )
    })
    const bin = "/opt/kafka/bin"
    const flags = ["-Xms256m", `-Xmx${heapOf(cluster.options)}`, ...(cluster.options.jvm ?? [])].join(" ")
    yield* Docker.create({
      name: member.host,
      network: cluster.network,
      image: `apache/kafka:${versionOf(cluster.options)}`,
      ports: [member.client, member.internal],
      folder: cluster.folder,
      config,
      entrypoint: "sh",
      args: [
        "-c",
        `${bin}/kafka-storage.sh format --ignore-formatted -t ${cluster.clusterId} -c ${inside} && ` +
        `KAFKA_HEAP_OPTS="${flags}" exec ${bin}/kafka-server-start.sh ${inside}`
      ]
    })
    return { command: "docker", args: ["start", "--attach", member.host], container: member.host }
  })

/** As Kafka writes them: 16 bytes, and no leading dash, which its tools would take for an option. */
const uuid = () => randomBytes(16).toString("base64url").replace(/^-/, "A")
