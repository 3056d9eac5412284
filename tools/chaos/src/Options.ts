/** What a run is asked for. */

export type Action = "kill" | "stop" | "suspend"

export interface Options {
  readonly transport: "kafka" | "nats" | "memory"
  /** How long it goes on at least, the calm beginning (a fifth of it, and at most 20 s) included. */
  readonly seconds: number
  readonly instances: number
  readonly aggregates: number
  readonly partitions: number
  /** How many events are published at least: beyond `seconds` it goes on until they are. */
  readonly envelopes: number
  readonly killEverySeconds: number
  /** Whether the next one comes at its time, between half of it and half more, also where nobody got to work since the last. */
  readonly relentless: boolean
  /** What may happen to an instance. */
  readonly actions: ReadonlyArray<Action>
  /** Whether the connections to the brokers are cut, half-closed, slowed down and frozen, on average so often. */
  readonly cutEverySeconds?: number | undefined
  /** Whether brokers are killed or stopped, and come back, on average so often. */
  readonly restartEverySeconds?: number | undefined
  /** Brokers: 1, or 3 with as many replicas. */
  readonly nodes: 1 | 3
  /** Which slot handles an aggregate's messages: a name of `Strategies`. */
  readonly strategy: string
  /** Whether each instance switches its strategy while it runs, on average so often. */
  readonly switchEverySeconds?: number | undefined
  readonly seed: number
  /** Of each handler, in ms. */
  readonly minWorkMs: number
  readonly maxWorkMs: number
  readonly failureRate: number
  /** How many of the aggregates fail for a time, again and again, and are parked and released. 0: none, and the policy is `hold`. */
  readonly patients: number
  /** Whether they fail. A run in which they don't is what one in which they do is compared with. */
  readonly areIll: boolean
  /** How many events are published in a second. Undefined: as many as can be. */
  readonly rate?: number | undefined
  /** How many events are published and not yet handled at most. */
  readonly ahead: number
  /** Kafka's session timeout, in ms. */
  readonly sessionTimeoutMs: number
  /** Where the instances' logs are kept, from level info on. Undefined: not at all. */
  readonly logs?: string | undefined
  /** Settings of the bus in each instance, as variables of the environment. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

export const defaults: Options = {
  transport: "kafka",
  seconds: 60,
  instances: 4,
  aggregates: 300,
  partitions: 12,
  envelopes: 0,
  killEverySeconds: 5,
  relentless: false,
  actions: ["kill", "stop", "suspend"],
  nodes: 1,
  strategy: "actor-per-aggregate",
  seed: 1,
  minWorkMs: 0,
  maxWorkMs: 5,
  failureRate: 0.01,
  patients: 0,
  areIll: true,
  ahead: 10_000,
  sessionTimeoutMs: 2_000
}

/** What other defaults a transport has. */
export const defaultsOf: Readonly<Record<Options["transport"], Partial<Options>>> = {
  kafka: {},
  nats: {},
  // What shares a process can't be suspended.
  memory: { actions: ["kill", "stop"] }
}

/** Whole runs by name: what the transports have to stand before a release. */
export const presets: Readonly<Record<string, Partial<Options>>> = {
  /** Four processes in one Kafka group; 20 s of calm, 90 s of chaos. */
  group: {
    transport: "kafka",
    seconds: 110,
    instances: 4,
    partitions: 12,
    aggregates: 300,
    envelopes: 200_000,
    actions: ["kill", "stop"]
  },
  /** Four processes in one Kafka group with its default session; one is killed or suspended every 2 to 6 s, whatever the others are doing. */
  relentless: {
    transport: "kafka",
    seconds: 110,
    instances: 4,
    partitions: 12,
    aggregates: 300,
    killEverySeconds: 4,
    relentless: true,
    actions: ["kill", "suspend"],
    sessionTimeoutMs: 20_000
  },
  /** Four instances of a partitioned group on NATS; 20 s of calm, 90 s of chaos. */
  partitions: {
    transport: "nats",
    seconds: 110,
    instances: 4,
    partitions: 12,
    aggregates: 300,
    envelopes: 100_000,
    actions: ["kill", "stop"]
  },
  /** One process on NATS with a thousand and more in flight; 15 s of calm, 60 s of chaos. */
  restarts: {
    transport: "nats",
    seconds: 75,
    instances: 1,
    partitions: 1,
    aggregates: 200,
    // Each tenth message is a plain one.
    envelopes: 115_000,
    actions: ["kill"],
    settings: { EVENTBUS_MAX_UNFINISHED: "2000" }
  }
}
