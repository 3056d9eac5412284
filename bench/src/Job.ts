/** One measurement of one system: what a process of its own is started for. */
export interface Job {
  readonly workload: string
  readonly system: string
  /** The window in which is counted; the warm-up before it is a quarter as long. */
  readonly seconds: number
  /** What lies on the topic, or the most that is published or dispatched. */
  readonly steps: number
  /** A topic with the load, or a new one. */
  readonly topic: string
  readonly kafka: ReadonlyArray<string>
  readonly nats: ReadonlyArray<string>
}

/** What came out; what a workload does not have is 0. */
export interface Measurement {
  readonly n: number
  readonly rate: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly rssMb: number
  readonly violations: number
  readonly lost: number
  /** Processor time of the process for each step, in microseconds: it depends less on what else the machine does. */
  readonly cpuUs: number
  /** Of one idle actor. */
  readonly kibEach: number
  /** How much the process grew after a tenth of the steps. */
  readonly grownMb: number
  /** Processor time of the process by the time that went by, in percent of one core. */
  readonly cpuPercent: number
  readonly sockets: number
  /** Messages that the failure policy has dropped. */
  readonly givenUp: number
}

export const nothing: Measurement = {
  n: 0,
  rate: 0,
  p50Ms: 0,
  p99Ms: 0,
  p999Ms: 0,
  rssMb: 0,
  violations: 0,
  lost: 0,
  cpuUs: 0,
  kibEach: 0,
  grownMb: 0,
  cpuPercent: 0,
  sockets: 0,
  givenUp: 0
}

/** Partitions of the topics on Kafka and in memory. */
export const partitions = 4
