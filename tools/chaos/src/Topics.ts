import { Topic } from "@effect-eventbus/core"
import * as Schema from "effect/Schema"

/** The events of a run count from 0 within each aggregate. */
export class Step extends Schema.TaggedClass<Step>()("Step", { sequence: Schema.Int }) {}

export const topics = (run: string, partitions: number) => ({
  orders: Topic.envelope(`chaos-${run}`, Step, { partitions }),
  clicks: Topic.plain(`chaos-${run}-plain`, { partitions })
})

export type Topics = ReturnType<typeof topics>
