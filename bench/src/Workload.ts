/**
 * What is measured: each workload with the systems that do it, what they are
 * compared with, and how much there is to do.
 */
import type { Spread } from "./Load.js"

export type TransportName = "kafka" | "nats" | "memory"

/** What a handler does: nothing, wait for 2 ms, or keep the processor busy for 0.1 ms. */
export type Work = "none" | "wait" | "busy"

interface Common {
  readonly name: string
  readonly title: string
  readonly transport: TransportName
  readonly systems: ReadonlyArray<string>
  /** The system that the others are compared with. */
  readonly raw: string
}

/** Handles what lies on a topic already. */
export interface Consume extends Common {
  readonly kind: "consume"
  readonly spread: Spread
  readonly work: Work
  /** Steps for each second of the measurement: more than the fastest can do, where it is not to end early. */
  readonly perSecond: number
}

/** Runs steps through queues by key, without topics. */
export interface Dispatch extends Common {
  readonly kind: "dispatch"
  readonly spread: Spread
  readonly work: Work
}

export interface Publish extends Common {
  readonly kind: "publish"
  readonly inFlight: number
  /** Steps in one call. */
  readonly batch: number
}

/** From the call of publish to the start of the handler, in one process. */
export interface Latency extends Common {
  readonly kind: "latency"
  readonly ratePerSecond: number
}

/**
 * Publishes and handles at a steady rate in memory, with each strategy: from the call of publish to the start of the handler. `"cold"`: only
 * of the aggregates that are not hot. `"defects"`: from a defect to the end of its message, which is handled or given up.
 */
export interface Sustained extends Common {
  readonly kind: "sustained"
  readonly spread: Spread
  readonly work: Work
  readonly ratePerSecond: number
  readonly times: "all" | "cold" | "defects"
}

/** What an idle actor takes. */
export interface Idle extends Common {
  readonly kind: "idle"
  readonly actors: number
}

/** Publishes and handles so many steps in memory, and watches the size of the process. */
export interface Steady extends Common {
  readonly kind: "steady"
  readonly spread: Spread
  readonly steps: number
}

/** Subscribes to so many topics that nobody publishes to, and does nothing. */
export interface Resting extends Common {
  readonly kind: "resting"
  readonly subscriptions: number
}

export type Workload = Consume | Dispatch | Publish | Latency | Sustained | Idle | Steady | Resting

/** Compared with the last one, by what its users would accept. */
export const strategies = ["actor-per-aggregate", "actor-pool", "keyed-workers"] as const

const thousand: Spread = { aggregates: 1_000 }
const hot: Spread = { aggregates: 1_000, hot: 10 }

const consumers = {
  kafka: ["kafkajs eachMessage", "kafkajs eachBatch", "kafkajs chains", "ours"],
  nats: ["nats one by one", "nats chains", "ours"],
  memory: ["array chains", "ours"]
} as const

const consume = (
  transport: TransportName,
  name: string,
  title: string,
  work: Work,
  spread: Spread,
  perSecond: number,
  raw: string,
  systems: ReadonlyArray<string> = consumers[transport]
): Consume => ({
  kind: "consume",
  name: `${transport}-${name}`,
  transport,
  title,
  work,
  spread,
  perSecond,
  raw,
  systems
})

const publish = (
  transport: "kafka" | "nats",
  name: string,
  title: string,
  inFlight: number,
  batch: number
): Publish => ({
  kind: "publish",
  name: `${transport}-publish-${name}`,
  transport,
  title,
  inFlight,
  batch,
  systems: [transport === "kafka" ? "kafkajs" : "nats", "ours"],
  raw: transport === "kafka" ? "kafkajs" : "nats"
})

const latency = (transport: "kafka" | "nats", ratePerSecond: number): Latency => ({
  kind: "latency",
  name: `${transport}-latency-${ratePerSecond}`,
  title: `latency at ${ratePerSecond.toLocaleString("en")}/s`,
  transport,
  ratePerSecond,
  systems: [transport === "kafka" ? "kafkajs" : "nats", "ours"],
  raw: transport === "kafka" ? "kafkajs" : "nats"
})

const sustained = (
  name: string,
  title: string,
  ratePerSecond: number,
  spread: Spread,
  work: Work,
  times: Sustained["times"]
): Sustained => ({
  kind: "sustained",
  name: `dispatch-${name}`,
  title,
  transport: "memory",
  ratePerSecond,
  spread,
  work,
  times,
  systems: strategies,
  raw: "keyed-workers"
})

const mailboxes = (name: string, title: string, spread: Spread): Dispatch => ({
  kind: "dispatch",
  name: `mailboxes${name}`,
  title,
  transport: "memory",
  spread,
  work: "none",
  systems: ["fastq", "p-queue", "ours"],
  raw: "fastq"
})

export const workloads: ReadonlyArray<Workload> = [
  mailboxes("", "mailboxes alone", thousand),
  mailboxes("-1", "mailboxes alone, 1 aggregate", { aggregates: 1 }),
  mailboxes("-100", "mailboxes alone, 100 aggregates", { aggregates: 100 }),
  mailboxes("-10000", "mailboxes alone, 10,000 aggregates", { aggregates: 10_000 }),
  {
    ...consume("memory", "", "strategies: no-op", "none", thousand, 80_000, "keyed-workers", strategies),
    name: "dispatch-noop"
  },
  {
    ...consume("memory", "", "strategies: 2 ms wait", "wait", thousand, 40_000, "keyed-workers", strategies),
    name: "dispatch-wait"
  },
  sustained("10000", "strategies: 10,000/s", 10_000, thousand, "none", "all"),
  sustained(
    "hot",
    "strategies: 4,000/s, 2 ms wait, half on 10 aggregates; times of the others",
    4_000,
    hot,
    "wait",
    "cold"
  ),
  sustained(
    "defects",
    "strategies: 4,000/s, a defect in 200; times until it is over",
    4_000,
    thousand,
    "none",
    "defects"
  ),
  consume("memory", "noop", "no-op", "none", thousand, 40_000, "array chains"),
  consume("memory", "plain", "no-op, plain messages settled afterwards", "none", thousand, 40_000, "array chains", [
    "array chains",
    "ours plain"
  ]),
  consume("memory", "watched", "no-op, with metrics and with spans", "none", thousand, 40_000, "ours", [
    "ours",
    "ours with metrics",
    "ours with spans"
  ]),
  consume("memory", "observed", "no-op, observed", "none", thousand, 40_000, "ours", [
    "ours",
    "ours + no tracer",
    "ours + metrics",
    "ours + health",
    "ours + traces of 1 %",
    "ours + traces of all"
  ]),
  consume("kafka", "noop", "no-op", "none", thousand, 250_000, "kafkajs eachMessage"),
  consume("kafka", "wait", "2 ms wait", "wait", thousand, 250_000, "kafkajs chains"),
  consume("kafka", "hot", "2 ms wait, half on 10 aggregates", "wait", hot, 25_000, "hot ones alone", [
    "hot ones alone",
    ...consumers.kafka
  ]),
  consume("kafka", "busy", "0.1 ms of CPU", "busy", thousand, 250_000, "kafkajs eachMessage"),
  consume("kafka", "aggregates-1", "no-op, 1 aggregate", "none", { aggregates: 1 }, 100_000, "kafkajs eachMessage"),
  consume(
    "kafka",
    "aggregates-100",
    "no-op, 100 aggregates",
    "none",
    { aggregates: 100 },
    100_000,
    "kafkajs eachMessage"
  ),
  consume(
    "kafka",
    "aggregates-10000",
    "no-op, 10,000 aggregates",
    "none",
    { aggregates: 10_000 },
    100_000,
    "kafkajs eachMessage"
  ),
  consume(
    "kafka",
    "hot-partition",
    "no-op, all in one of four partitions",
    "none",
    { aggregates: 4_000, onePartition: true },
    150_000,
    "kafkajs eachMessage",
    ["kafkajs eachMessage", "kafkajs eachBatch", "ours"]
  ),
  {
    kind: "resting",
    name: "kafka-resting",
    title: "100 subscriptions without messages",
    transport: "kafka",
    subscriptions: 100,
    systems: ["kafkajs", "ours"],
    raw: "kafkajs"
  },
  {
    kind: "resting",
    name: "nats-resting",
    title: "100 subscriptions without messages",
    transport: "nats",
    subscriptions: 100,
    systems: ["ours"],
    raw: "ours"
  },
  publish("kafka", "single", "publishing one by one", 1, 1),
  publish("kafka", "flight", "publishing, 100 in flight", 100, 1),
  publish("kafka", "batch", "publishing in batches of 1,000", 1, 1_000),
  latency("kafka", 1_000),
  latency("kafka", 5_000),
  consume("nats", "noop", "no-op", "none", thousand, 80_000, "nats one by one"),
  consume("nats", "wait", "2 ms wait", "wait", thousand, 80_000, "nats chains"),
  consume("nats", "hot", "2 ms wait, half on 10 aggregates", "wait", hot, 25_000, "hot ones alone", [
    "hot ones alone",
    ...consumers.nats
  ]),
  consume("nats", "busy", "0.1 ms of CPU", "busy", thousand, 80_000, "nats one by one"),
  publish("nats", "single", "publishing one by one", 1, 1),
  publish("nats", "flight", "publishing, 1,000 in flight", 1_000, 1),
  publish("nats", "batch", "publishing in batches of 1,000", 1, 1_000),
  latency("nats", 1_000),
  latency("nats", 5_000),
  {
    kind: "idle",
    name: "memory-idle",
    title: "an idle actor",
    transport: "memory",
    actors: 9_000,
    systems: ["fiber on a queue", "ours"],
    raw: "fiber on a queue"
  },
  {
    kind: "steady",
    name: "memory-turns",
    title: "1,000,000 aggregates in turn",
    transport: "memory",
    spread: { aggregates: 1_000_000, inTurn: true },
    steps: 1_500_000,
    systems: ["ours"],
    raw: "ours"
  },
  {
    kind: "steady",
    name: "memory-steady",
    title: "10,000,000 messages",
    transport: "memory",
    spread: thousand,
    steps: 10_000_000,
    systems: ["ours"],
    raw: "ours"
  }
]

export const find = (name: string): Workload => {
  const found = workloads.find((workload) => workload.name === name)
  if (found === undefined) throw new Error(`There is no workload "${name}"`)
  return found
}

/** Those whose names contain one of these texts; all where none is given. */
export const select = (only: ReadonlyArray<string>): ReadonlyArray<Workload> =>
  workloads.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part)))

/** What has to lie on a topic for them, by the topic's name without its prefix. */
export const loadOf = ({ spread, transport }: Consume): string =>
  `${transport}-${spread.aggregates}${spread.onePartition === true ? "-one" : ""}${
    spread.hot === undefined ? "" : `-hot${spread.hot}`
  }`
