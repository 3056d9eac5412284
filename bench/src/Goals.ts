/** What is aimed at, as ratios within one run. */
import type { Row } from "./Report.js"

export interface Goal {
  readonly workload: string
  readonly text: string
  /** Undefined where the run does not have what is compared. */
  readonly measured: (rows: ReadonlyArray<Row>) => number | undefined
  readonly holds: (measured: number) => boolean
}

const rowOf = (rows: ReadonlyArray<Row>, workload: string, system: string): Row | undefined =>
  rows.find((row) => row.workload === workload && row.system === system)

const atLeast = (ratio: number, workload: string, than: string, text = `≥ ${ratio} of ${than}`): Goal => ({
  workload,
  text,
  measured: (rows) => rowOf(rows, workload, "ours")?.ratios[than],
  holds: (measured) => measured >= ratio
})

/** How much of our own rate is left to somebody who looks. */
const observed = (ratio: number, system: string): Goal => ({
  workload: "memory-observed",
  text: `≥ ${ratio} of ours: ${system}`,
  measured: (rows) => rowOf(rows, "memory-observed", system)?.ratios["ours"],
  holds: (measured) => measured >= ratio
})

const ofOwn = (
  workload: string,
  text: string,
  measured: (row: Row) => number,
  holds: (measured: number) => boolean
): Goal => ({
  workload,
  text,
  measured: (rows) => {
    const row = rowOf(rows, workload, "ours")
    return row === undefined ? undefined : measured(row)
  },
  holds
})

const slowerBy = (workload: string, raw: string): Goal => ({
  workload,
  text: `p99 at most 1 ms above ${raw}`,
  measured: (rows) => {
    const own = rowOf(rows, workload, "ours")
    const other = rowOf(rows, workload, raw)
    return own === undefined || other === undefined ? undefined : own.p99Ms - other.p99Ms
  },
  holds: (measured) => measured <= 1
})

/** What the predecessor accepted of a strategy that takes the place of keyed workers. */
const acceptance = {
  throughput: { text: "throughput ≥ −5 %", of: (row: Row) => row.rate, holds: (ratio: number) => ratio >= 0.95 },
  p99: { text: "p99 ≤ +5 %", of: (row: Row) => row.p99Ms, holds: (ratio: number) => ratio <= 1.05 },
  memory: { text: "memory ≤ +10 %", of: (row: Row) => row.rssMb, holds: (ratio: number) => ratio <= 1.1 }
}

const accepted = (workload: string, strategy: string, figure: keyof typeof acceptance): Goal => {
  const { holds, of, text } = acceptance[figure]
  return {
    workload,
    text: `${strategy}, ${text} of keyed-workers`,
    measured: (rows) => {
      const row = rowOf(rows, workload, strategy)
      const other = rowOf(rows, workload, "keyed-workers")
      if (row === undefined || other === undefined) return undefined
      return figure === "throughput" ? row.ratios["keyed-workers"] : of(row) / of(other)
    },
    holds
  }
}

export const goals: ReadonlyArray<Goal> = [
  ofOwn("mailboxes", "≥ 600,000/s", (row) => row.rate, (rate) => rate >= 600_000),
  atLeast(1, "mailboxes", "fastq", "ahead of fastq"),
  ...["actor-per-aggregate", "actor-pool"].flatMap((strategy) => [
    ...["dispatch-noop", "dispatch-wait", "dispatch-10000"].map((workload) =>
      accepted(workload, strategy, "throughput")
    ),
    ...["dispatch-10000", "dispatch-hot"].map((workload) => accepted(workload, strategy, "p99")),
    ...["dispatch-noop", "dispatch-wait", "dispatch-10000", "dispatch-hot"].map((workload) =>
      accepted(workload, strategy, "memory")
    )
  ]),
  observed(0.99, "ours + no tracer"),
  observed(0.92, "ours + metrics"),
  observed(0.95, "ours + health"),
  observed(0.9, "ours + traces of 1 %"),
  atLeast(0.9, "kafka-noop", "kafkajs eachMessage"),
  atLeast(0.75, "kafka-noop", "kafkajs chains"),
  atLeast(0.9, "kafka-wait", "kafkajs chains"),
  atLeast(45, "kafka-wait", "kafkajs eachBatch"),
  atLeast(0.9, "kafka-hot", "hot ones alone"),
  atLeast(0.9, "kafka-hot-partition", "kafkajs eachMessage"),
  ofOwn("kafka-resting", "< 3 % of a core", (row) => row.cpuPercent, (percent) => percent < 3),
  ofOwn("nats-resting", "< 3 % of a core", (row) => row.cpuPercent, (percent) => percent < 3),
  ofOwn("kafka-resting", "≤ 20 sockets", (row) => row.sockets, (sockets) => sockets <= 20),
  atLeast(4, "kafka-publish-flight", "kafkajs"),
  atLeast(0.9, "kafka-publish-batch", "kafkajs"),
  slowerBy("kafka-latency-1000", "kafkajs"),
  atLeast(0.95, "nats-noop", "nats one by one"),
  atLeast(1, "nats-wait", "nats chains", "ahead of nats chains"),
  {
    workload: "nats-wait",
    text: "≥ 0.8 of our no-op rate",
    measured: (rows) => {
      const wait = rowOf(rows, "nats-wait", "ours")
      const noop = rowOf(rows, "nats-noop", "ours")
      return wait === undefined || noop === undefined ? undefined : wait.rate / noop.rate
    },
    holds: (measured) => measured >= 0.8
  },
  atLeast(0.9, "nats-hot", "hot ones alone"),
  atLeast(3, "nats-publish-flight", "nats"),
  slowerBy("nats-latency-1000", "nats"),
  ofOwn("memory-idle", "≤ 12 KiB", (row) => row.kibEach, (kib) => kib <= 12),
  ofOwn("memory-turns", "< 400 MiB", (row) => row.rssMb, (mib) => mib < 400),
  ofOwn("memory-steady", "grows < 32 MiB after a tenth", (row) => row.grownMb, (mib) => mib < 32)
]
