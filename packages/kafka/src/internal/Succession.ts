/**
 * Where another group has stopped, for a group that begins there: what the other one has committed, with what its metadata says of
 * messages that are finished above it, counts as if this group had committed it. Only partitions without a position of this group
 * need it, and only while the other one is not alive.
 */
import { InvalidConfiguration, TakeOverRefused } from "@effect-eventbus/core/EventBusError"
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import type { Settings } from "../KafkaConfig.js"
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { reconnect } from "./Client.js"
import { isDenied, type KafkaFailure } from "./Failure.js"
import * as GroupDriver from "./GroupDriver.js"
import { GroupLink, type GroupLinks } from "./GroupLinks.js"
import * as Offsets from "./Offsets.js"

export interface SuccessionOptions {
  readonly client: Client
  readonly links: GroupLinks
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly request: SubscribeRequest
  /** This group, as the broker knows it. */
  readonly group: string
  readonly id: string
  /** What the broker knows a group of this library as. */
  readonly nameOf: (group: string) => string
}

type Positions = ReadonlyMap<number, Offsets.Committed>

const none: Positions = new Map()

/**
 * Nobody is in the group. One that is `Dead` does not exist; where it has positions all the same, it is one of the newer protocol
 * (`group.protocol=consumer`), whose members this request does not tell.
 */
const DESERTED = "Empty"

/** By partition, where the subscription asks for it and the group has no position of its own. */
export const inherited = (
  options: SuccessionOptions
): Effect.Effect<Positions, KafkaFailure | TakeOverRefused | InvalidConfiguration> => {
  const { request: { startFrom }, settings } = options
  if (typeof startFrom !== "object" || !("group" in startFrom)) return Effect.succeed(none)
  return found(options, startFrom.group).pipe(
    Effect.retry({
      while: (error) =>
        error._tag === "KafkaFailure" && !error.isOurs && !isDenied(error) &&
        toInvalidConfiguration(error) === undefined,
      schedule: Schedule.upTo(reconnect, settings.subscribeTimeout)
    })
  )
}

const found = (options: SuccessionOptions, from: string) =>
  Effect.gen(function*() {
    const { client, group, id, links, request, settings, topics } = options
    const topic = request.topic.name
    const link = new GroupLink(links, `group-${id}`)
    const partitions = Array.from(topics.known(topic)?.leaders ?? [], (_, partition) => partition)
    const of = (name: string) =>
      Effect.gen(function*() {
        const driver = GroupDriver.make({ client, group: name, instanceId: undefined, joinRole: `join-${id}`, link })
        const node = yield* driver.findCoordinator(settings.requestTimeout)
        const positions = Offsets.committed(yield* driver.committed(node, topic, partitions))
        return { name, positions, describe: driver.describe(node, settings.requestTimeout) }
      })
    const own = (yield* of(group)).positions
    const missing = partitions.filter((partition) => !own.has(partition))
    if (missing.length === 0) return none
    // A group of this library first, then one that has the name itself.
    const names = Array.from(new Set([options.nameOf(from), from])).filter((name) => name !== group)
    if (names.length === 0) {
      const issue = `startFrom.group: "${from}" is this group itself`
      return yield* new InvalidConfiguration({ topic, issues: [issue] })
    }
    const refused = (reason: TakeOverRefused["reason"], details: ReadonlyArray<string>) =>
      new TakeOverRefused({ topic, group: request.group, from, reason, details })
    // One that may not be seen need not exist. One that was not answered could be the one that is meant.
    const seen = (name: string) =>
      of(name).pipe(
        Effect.map(Either.right),
        Effect.catchIf(isDenied, (denied) => Effect.succeed(Either.left(denied)))
      )
    const others = yield* Effect.forEach(names, seen)
    const known = others.flatMap((other) => Either.isRight(other) ? [other.right] : [])
    const other = known.find(({ positions }) => positions.size > 0)
    if (other === undefined) {
      const failed = others.findIndex(Either.isLeft)
      if (failed >= 0) return yield* unknowable(topic, names[failed]!, Either.getOrThrow(Either.flip(others[failed]!)))
      // Partitions that were added to the topic later have nothing to be taken over.
      if (own.size > 0) return none
      const states = yield* Effect.forEach(known, ({ describe }) => describe)
      return yield* refused(states.every(({ state }) => state === "Dead") ? "Unknown" : "OtherTopic", names)
    }
    const taken = new Map(Array.from(other.positions).filter(([partition]) => missing.includes(partition)))
    if (taken.size === 0) return none
    const { members, state } = yield* Effect.catchAll(
      other.describe,
      (error) => unknowable(topic, other.name, error)
    )
    if (state !== DESERTED) {
      const hidden =
        "its members can't be seen: it is of the protocol \"consumer\". Once it has stopped, begin at its offsets"
      if (state === "Dead") return yield* refused("Alive", [`${other.name}: ${hidden}`])
      const alive = members.map(({ clientHost, clientId }) => `${clientId} at ${clientHost.replace(/^\//, "")}`)
      return yield* refused("Alive", [`${other.name} is ${state}`, ...alive])
    }
    yield* Effect.logInfo("The group begins where another one has stopped").pipe(
      Effect.annotateLogs({
        from: other.name,
        positions: Array.from(taken, ([partition, { offset }]) => `${partition}: ${offset}`).join(", ")
      })
    )
    return taken
  })

/** Without the right to describe the other group nobody knows whether it is alive. */
const unknowable = (
  topic: string,
  name: string,
  cause: KafkaFailure
): Effect.Effect<never, KafkaFailure | InvalidConfiguration> => {
  const issue = `startFrom.group: the user is not authorized to describe the group "${name}" (DESCRIBE)`
  return Effect.fail(isDenied(cause) ? new InvalidConfiguration({ topic, issues: [issue], cause }) : cause)
}
