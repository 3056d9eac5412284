/** Which partitions of a subscription can't be fetched from, and why: said once it lasts, and when it is over. */
import type { Problem } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { KafkaFailure } from "./Failure.js"
import * as Lasting from "./Lasting.js"

export interface FetchTroubles {
  /** Synchronous and cheap, as are the others. */
  readonly failed: (partition: number, error: KafkaFailure) => void
  /** It was fetched from, or is not fetched from any more. */
  readonly over: (partition: number) => void
  readonly problems: () => ReadonlyArray<Problem>
}

export const make = (topic: string): Effect.Effect<FetchTroubles, never, Scope.Scope> =>
  Effect.map(Lasting.make, (lasting) => {
    const failing = new Map<number, string>()

    const tell = (type: string, error?: KafkaFailure): void => {
      const partitions = Array.from(failing).filter(([, own]) => own === type).map(([partition]) => partition)
      if (partitions.length === 0) return lasting.worked(nameOf(type))
      if (error !== undefined) lasting.failed(nameOf(type), meaningOf(topic, partitions, error), error)
    }

    const over = (partition: number): void => {
      const type = failing.get(partition)
      if (type === undefined) return
      failing.delete(partition)
      tell(type)
    }

    return {
      failed: (partition, error) => {
        if (failing.get(partition) !== error.type) over(partition)
        failing.set(partition, error.type)
        tell(error.type, error)
      },
      over,
      problems: lasting.problems
    }
  })

const nameOf = (type: string): string => `fetch ${type}`

const meaningOf = (topic: string, partitions: ReadonlyArray<number>, error: KafkaFailure): string => {
  const numbers = [...partitions].sort((a, b) => a - b).join(", ")
  const why = toInvalidConfiguration(error)?.issues[0] ?? error.type
  return `Nothing can be fetched from ${topic}, partition ${numbers}, and its messages wait: ${why}`
}
