/**
 * @since 0.1.0
 */

/**
 * A node of a cluster and its ports: clients', the other brokers' (and ours, for probes), the controllers'.
 *
 * @since 0.1.0
 * @category models
 */
export interface Member {
  readonly id: number
  /** How the other nodes reach it. */
  readonly host: string
  readonly client: number
  readonly internal: number
  readonly controller: number
  /** host:port that clients are told. */
  readonly advertised: string
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  readonly bind: string
  readonly data: string
  readonly more?: Readonly<Record<string, string>> | undefined
}

const listener = (name: string, host: string, port: number) => `${name}://${host}:${port}`

/** What makes one small machine's tests quick and independent of each other. */
const forTests = (nodes: number): Record<string, string> => {
  const replicas = String(nodes)
  const inSync = nodes === 1 ? "1" : "2"
  return {
    "auto.create.topics.enable": "false",
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "num.partitions": "1",
    // A rebalance doesn't wait for more members, and a test may detect a dead one within a second.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    // Otherwise it is in the latency of each commit.
    "group.coordinator.append.linger.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    // A killed broker is noticed, and its partitions get a new leader, within seconds.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.retention.check.interval.ms": "300000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "controlled.shutdown.max.retries": "1"
  }
}

/**
 * The text of a node's server.properties.
 *
 * @since 0.1.0
 * @category constructors
 */
export const render = (member: Member, members: ReadonlyArray<Member>, options: Options): string => {
  const entries: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": String(member.id),
    "controller.quorum.voters": members.map(({ controller, host, id }) => `${id}@${host}:${controller}`).join(","),
    "listeners": [
      listener("CLIENT", options.bind, member.client),
      listener("INTERNAL", options.bind, member.internal),
      listener("CONTROLLER", options.bind, member.controller)
    ].join(","),
    "advertised.listeners": `CLIENT://${member.advertised},${listener("INTERNAL", member.host, member.internal)}`,
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "INTERNAL",
    "controller.listener.names": "CONTROLLER",
    "log.dirs": options.data,
    ...forTests(members.length),
    ...options.more
  }
  return Object.entries(entries).map(([key, value]) => `${key}=${value}\n`).join("")
}
