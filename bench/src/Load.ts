/**
 * What is published and handled: numbered steps of aggregates, in an order that
 * everybody who measures can make again without keeping it.
 */
import { Partitioner, Topic } from "@effect-eventbus/core"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { partitions } from "./Job.js"

/** The payload; 60 bytes of text make an envelope of about 320 bytes. */
export const Step = Schema.TaggedStruct("Step", {
  aggregate: Schema.Number,
  sequence: Schema.Number,
  note: Schema.String
})

export type Step = typeof Step.Type

/** An envelope on the wire, for those who read it by `JSON.parse`. */
export interface WireStep {
  readonly aggregate_id: string
  readonly payload: Step
}

/** Its partitions are the transport's: a topic that names them has subjects for them on NATS, which the others don't read. */
export const topic = (name: string) => Topic.envelope(name, Step)

const note = "a note that makes the payload about as long as many events"

export const step = (aggregate: number, sequence: number): Step => ({ _tag: "Step", aggregate, sequence, note })

export const idOf = (aggregate: number): string => `order-${aggregate}`

/** An envelope as one writes it by hand. */
export const wire = (aggregate: number, sequence: number): string =>
  JSON.stringify({
    event_id: randomUUID(),
    aggregate_id: idOf(aggregate),
    event_type: "Step",
    event_version: 1,
    timestamp: new Date().toISOString(),
    payload: step(aggregate, sequence)
  })

/** How the steps are spread over the aggregates. */
export interface Spread {
  readonly aggregates: number
  /** So many of the aggregates have half of the steps. Default: 0. */
  readonly hot?: number | undefined
  /** Only those of the aggregates that belong to the first of the partitions. */
  readonly onePartition?: boolean | undefined
  /** One aggregate after the other instead of at random. */
  readonly inTurn?: boolean | undefined
}

const encoder = new TextEncoder()

const ofFirstPartition = (aggregates: number): ReadonlyArray<number> =>
  Array.from({ length: aggregates }, (_, aggregate) => aggregate).filter((aggregate) =>
    Partitioner.partition("murmur2", encoder.encode(idOf(aggregate)), partitions) === 0
  )

/** Gives the next step's aggregate and its sequence, the same ones each time (mulberry32 with a fixed seed). */
export const steps = (spread: Spread): () => { readonly aggregate: number; readonly sequence: number } =>
  spread.inTurn === true ? turns(spread) : draws(spread)

const turns = ({ aggregates }: Spread) => {
  let turn = 0
  return () => {
    const position = turn++
    return { aggregate: position % aggregates, sequence: Math.floor(position / aggregates) }
  }
}

const draws = ({ aggregates, hot = 0, onePartition }: Spread) => {
  const some = onePartition === true ? ofFirstPartition(aggregates) : undefined
  const sequences = new Int32Array(aggregates)
  let seed = 42
  let turn = 0
  const random = (below: number): number => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
  return () => {
    const position = turn++
    const aggregate = some !== undefined
      ? some[random(some.length)]!
      : hot === 0
      ? random(aggregates)
      : position % 2 === 0
      ? random(hot)
      : hot + random(aggregates - hot)
    return { aggregate, sequence: sequences[aggregate]!++ }
  }
}
