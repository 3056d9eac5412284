import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as ConfigSpec from "../../ConfigSpec.js"
import { InvalidConfiguration, type SubscribeError } from "../../EventBusError.js"
import { type Options, spec } from "../../Poison.js"
import type { Assignment, Service as Transport, TopicSpec } from "../../Transport.js"
import type { Subscriber } from "../flight.js"
import type { Lasting } from "../lasting.js"
import * as Alone from "./alone.js"
import { Sentry } from "./sentry.js"

/** The store's name. */
const name = "poison"

/** Tells the lives of this process from those of others, and from each other. */
let lives = 0
const process = globalThis.crypto.randomUUID()

/**
 * What is wrong with the option.
 *
 * @internal
 */
export const issuesOf = (options: Options | "off" | undefined): ReadonlyArray<string> => {
  if (options === undefined || options === "off") return []
  if (typeof options !== "object" || options === null) return ["poison: expected options, such as {}, or \"off\""]
  return Array.from(ConfigSpec.problems(ConfigSpec.below("poison", spec), "poison", options).values())
}

/** @internal */
export interface Settings {
  readonly topic: TopicSpec
  readonly transport: Transport
  readonly options: Options
  readonly lasting: Lasting
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/**
 * Opens the store of a subscription, and answers how the lane of an assignment gets its sentry.
 *
 * @internal
 */
export const make = (
  { fork, lasting, options, topic, transport }: Settings,
  group: string
): Effect.Effect<
  (subscriber: Subscriber) => (assignment: Assignment, onOpened: () => void) => Sentry,
  SubscribeError,
  Scope.Scope
> => {
  if (transport.store === undefined) {
    return new InvalidConfiguration({
      topic: topic.name,
      issues: [`poison: the ${transport.name} transport has no store`]
    })
  }
  const millis = (name: "probation" | "alone") => Duration.toMillis(options[name] ?? spec[name].value)
  return Effect.map(
    transport.store({ topic, group, name }),
    (store) => (subscriber) => (assignment, onOpened) =>
      new Sentry(
        assignment,
        {
          store,
          subscriber,
          lives: options.lives ?? spec.lives.value,
          probation: millis("probation"),
          alone: millis("alone"),
          turns: Alone.ofProcess,
          lasting,
          newLife: () => `${process}.${++lives}`,
          fork
        },
        onOpened
      )
  )
}
