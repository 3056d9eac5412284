/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdir, writeFile } from "node:fs/promises"
import { basename, join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as BrokerNode from "./BrokerNode.js"
import * as Docker from "./Docker.js"
import * as External from "./External.js"
import * as NatsPackage from "./NatsPackage.js"
import * as NatsProbe from "./NatsProbe.js"
import * as Ports from "./Ports.js"
import * as TempFolder from "./TempFolder.js"

/**
 * Running nats-servers with JetStream.
 *
 * @since 0.1.0
 * @category models
 */
export interface NatsCluster {
  /** host:port of every node. */
  readonly servers: ReadonlyArray<string>
  /** Empty for servers from the environment: they aren't ours to kill. */
  readonly nodes: ReadonlyArray<BrokerNode.BrokerNode>
  readonly external: boolean
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** By default what `TEST_NATS_VERSION` says, or else `NatsPackage.defaultVersion`. */
  readonly version?: NatsPackage.Version | undefined
  /** Default 1; 3 is a JetStream cluster, ready when it has a leader. */
  readonly nodes?: 1 | 3 | undefined
  /** More lines for each server's configuration file. */
  readonly config?: string | undefined
  /** Never servers from the environment: the test wants to kill them. Any other option implies it. Default false. */
  readonly own?: boolean | undefined
}

interface Member {
  readonly id: number
  readonly name: string
  readonly host: string
  readonly client: number
  readonly monitor: number
  readonly route: number
}

/**
 * Brings up nats-server with JetStream; it ends with the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<NatsCluster, BrokerError, Scope.Scope> =>
  Effect.suspend(() => {
    const servers = External.addresses("TEST_NATS_SERVERS", options)
    return servers === undefined
      ? BrokerNode.againOnPortClash(started(options))
      : Effect.as(
        External.reachable("nats", servers, (port, host) => NatsProbe.info(port, host)),
        { servers, nodes: [], external: true }
      )
  })

const started = (options: Options): Effect.Effect<NatsCluster, BrokerError, Scope.Scope> =>
  Effect.gen(function*() {
    const count = options.nodes ?? 1
    const docker = yield* Docker.available
    const version = options.version ??
      (yield* NatsPackage.versionOf(process.env["TEST_NATS_VERSION"] ?? NatsPackage.defaultVersion))
    const server = docker ? "" : yield* NatsPackage.get(version)
    const folder = yield* TempFolder.make("nats")
    const network = docker ? yield* Docker.network(folder) : ""
    const ports = yield* Ports.take(count * 3)
    const members = Array.from({ length: count }, (_, index): Member => {
      const name = `${basename(folder)}-${index + 1}`
      return {
        id: index + 1,
        name,
        host: docker ? name : "127.0.0.1",
        client: ports[index * 3]!,
        monitor: ports[index * 3 + 1]!,
        route: ports[index * 3 + 2]!
      }
    })
    const launches = yield* Effect.forEach(members, (member) =>
      Effect.gen(function*() {
        const home = join(folder, `node-${member.id}`)
        const file = join(home, "nats.conf")
        const text = configuration(member, members, docker ? "/data" : join(home, "data"), docker, options.config)
        yield* Effect.tryPromise({
          try: async () => {
            await mkdir(home)
            await writeFile(file, text)
          },
          catch: system("nats", "its configuration can't be written")
        })
        if (docker) {
          yield* Docker.create({
            name: member.name,
            network,
            image: `nats:${version}`,
            ports: [member.client, member.monitor],
            folder,
            config: home,
            args: ["-c", "/etc/eventbus/nats.conf"]
          })
        }
        return {
          broker: "nats" as const,
          id: member.id,
          address: `127.0.0.1:${member.client}`,
          folder,
          ...(docker
            ? { command: "docker", args: ["start", "--attach", member.name], container: member.name }
            : { command: server, args: ["-c", file] }),
          probe: probe(member, count)
        }
      }))
    const nodes = yield* BrokerNode.startAll(launches)
    return { servers: nodes.map((node) => node.address), nodes, external: false }
  })

const probe = (member: Member, nodes: number) =>
  Effect.gen(function*() {
    const info = yield* NatsProbe.info(member.client)
    if (info.server_name !== member.name) {
      return yield* new BrokerError({
        broker: "nats",
        reason: "NotReady",
        detail: `another server (${info.server_name}) has port ${member.client}`
      })
    }
    yield* NatsProbe.healthy(member.monitor, nodes)
  })

const configuration = (
  member: Member,
  members: ReadonlyArray<Member>,
  data: string,
  docker: boolean,
  more: string | undefined
) => {
  const bind = docker ? "0.0.0.0" : "127.0.0.1"
  const routes = members
    .filter((other) => other.id !== member.id)
    .map((other) => `"nats://${other.host}:${other.route}"`)
  return [
    `server_name: "${member.name}"`,
    `listen: "${bind}:${member.client}"`,
    `http: "${bind}:${member.monitor}"`,
    `jetstream { store_dir: "${data}" }`,
    ...(routes.length === 0
      ? []
      : [
        `cluster { name: eventbus, listen: "${bind}:${member.route}", no_advertise: true, routes: [${
          routes.join(", ")
        }] }`
      ]),
    more ?? "",
    ""
  ].join("\n")
}
