import * as Duration from "effect/Duration"
import type { Finding, Reason } from "../Finding.js"
import { remedies } from "./Remedies.js"

/**
 * What a finding says beside its reason.
 *
 * @internal
 */
export type Told = Pick<Finding, "message" | "since"> & Partial<Omit<Finding, "reason" | "age" | "remedy">>

/**
 * A finding of a reason.
 *
 * @internal
 */
export const finding = (reason: Reason, now: number, told: Told): Finding => ({
  level: remedies[reason].level,
  remedy: remedies[reason].remedy,
  transport: undefined,
  topic: undefined,
  group: undefined,
  partition: undefined,
  offset: undefined,
  aggregateId: undefined,
  count: 1,
  ...told,
  reason,
  age: Duration.millis(Math.max(0, now - told.since))
})
