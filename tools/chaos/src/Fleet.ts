/** Who takes part in a run: instances that can be killed, and the publisher. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Outage } from "./Circumstances.js"
import type { Entry } from "./Log.js"

/** One that takes part, in a process of its own or not. */
export interface Participant {
  readonly name: string
  /** What it has written down since the last call. */
  readonly poll: () => ReadonlyArray<Entry>
  readonly isAlive: () => boolean
  /** Its errors and warnings, for people. */
  readonly errors: () => string
}

export interface Instance extends Participant {
  /** At once, and without a chance to finish or settle anything. */
  readonly kill: Effect.Effect<void>
  readonly suspend: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Ends as a deployment ends it; killed when it has not ended in time. `true` when it ended by itself. */
  readonly stop: (withinMs: number) => Effect.Effect<boolean>
}

export interface Publisher extends Participant {
  /** How much was handled. */
  readonly tell: (handled: number) => void
  /** Publishes nothing more; returns when the last confirmation is there. */
  readonly finish: Effect.Effect<void>
}

export interface Fleet {
  readonly outages: Array<Outage>
  /** All patients are well from now on. */
  readonly heal: Effect.Effect<void>
  readonly startInstance: (name: string) => Effect.Effect<Instance, ParticipantFailed, Scope.Scope>
  readonly startPublisher: Effect.Effect<Publisher, ParticipantFailed, Scope.Scope>
}

export class ParticipantFailed extends Data.TaggedError("ParticipantFailed")<{
  readonly name: string
  readonly output: string
}> {
  override get message() {
    return `${this.name} ended by itself:\n${this.output}`
  }
}
