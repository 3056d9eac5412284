/** How many partitions and replicas a topic can have. */
import type { TopicSettings } from "../TopicSettings.js"

/** The protocol has no larger numbers. */
const MAX_PARTITIONS = 0x7fffffff
const MAX_REPLICAS = 0x7fff

/** What is wrong with them, each as the setting's name and what is expected. */
export const problems = (
  { partitions, replicationFactor }: Pick<TopicSettings, "partitions" | "replicationFactor">
): ReadonlyArray<string> => {
  const issues: Array<string> = []
  if (partitions !== undefined && !isWithin(partitions, MAX_PARTITIONS)) {
    issues.push(`partitions: expected a whole number from 1 to ${MAX_PARTITIONS}`)
  }
  if (replicationFactor !== undefined && replicationFactor !== -1 && !isWithin(replicationFactor, MAX_REPLICAS)) {
    issues.push(`replicationFactor: expected a whole number from 1 to ${MAX_REPLICAS}, or -1 for the broker's default`)
  }
  return issues
}

const isWithin = (value: number, max: number): boolean => Number.isInteger(value) && value >= 1 && value <= max
