import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import { InvalidConfiguration, type PublishError, PublishFailed } from "../../EventBusError.js"
import type * as Api from "../../Parking.js"
import * as Logging from "../logging.js"
import * as Safely from "../safely.js"
import * as Command from "./command.js"
import type { ParkedLane } from "./lane.js"
import * as Letter from "./letter.js"
import type { Parked } from "./parked.js"
import type { Parking } from "./parking.js"
import type { Job } from "./writer.js"

const maxPage = 1_000
const maxText = 500
/** How many aggregates can be parked by hand that have no message here. */
const maxWanted = 10_000
/** How many names of aggregates are in one order, and how long the name of an aggregate may be. */
const maxNames = 500
const maxName = 1_000

const pageOf = (limit: number): number => limit >= 1 ? Math.min(maxPage, Math.floor(limit)) : 1

/** A parked aggregate and its lane. */
type Found = readonly [ParkedLane, Parked]

/**
 * What somebody can do by hand with what is parked.
 *
 * @internal
 */
export const make = (parking: Parking | undefined, topic: string, name: string): Api.Parking => {
  const all = (): ReadonlyArray<Found> =>
    (parking?.ready ?? []).flatMap((lane) => Array.from(lane.parked.values(), (one): Found => [lane, one]))
      .sort(([, a], [, b]) => a.key < b.key ? -1 : a.key > b.key ? 1 : 0)

  const invalid = (issue: string) => new InvalidConfiguration({ topic, issues: [issue] })

  const checked = <A, E>(by: Api.By, work: (parking: Parking) => Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | InvalidConfiguration> => {
      if (parking === undefined) return invalid("no policy of this subscription is FailurePolicy.park")
      // Without a compiler anything may be here.
      return Predicate.isReadonlyRecord(by) && isText(by.who) && isText(by.why)
        ? work(parking)
        : invalid("who and why: expected a text that is not empty")
    })

  const command = (
    target: Api.Target,
    options: Api.By & {
      readonly dryRun?: boolean | undefined
      readonly rate?: number | undefined
      readonly offset?: number | undefined
    },
    does: Command.Order["does"]
  ): Effect.Effect<Api.Report, Api.CommandError> =>
    checked(options, () =>
      Effect.gen(function*() {
        const { dryRun, ...more } = options
        const issue = issueOf(target, more)
        if (issue !== undefined) return yield* invalid(issue)
        const picked = Either.try(() => all().filter((one) => isMeant(target, one)))
        if (Either.isLeft(picked)) return yield* invalid(`where: threw ${Safely.nameOf(picked.left)}`)
        const found = picked.right
        const report = reportOf(found, more.offset)
        if (dryRun === true || found.length === 0) return report
        const by = byOf(more)
        const order = {
          does,
          by,
          at: yield* Clock.currentTimeMillis,
          rate: more.rate,
          offset: more.offset,
          id: (yield* Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER)).toString(36)
        }
        for (const [lane, part] of ordersOf(target, found)) yield* send(topic, lane, { ...order, ...part })
        yield* Logging.info(
          `${by.who} ${does}s ${report.letters} letters of ${report.aggregates} parked aggregates of ${name}: ${by.why}`
        )
        return report
      }))

  return {
    park: (aggregate, by) =>
      checked(by, ({ lanes, settings: { wanted } }) =>
        Effect.suspend(() => {
          if (!isText(aggregate) || aggregate.length > maxName) {
            return invalid(`aggregate: expected a text of 1 to ${maxName} characters`)
          }
          if (Array.from(lanes).some(({ parked }) => parked.has(aggregate))) return Effect.void
          if (wanted.size >= maxWanted) return invalid(`${maxWanted} aggregates without messages are parked already`)
          wanted.set(aggregate, byOf(by))
          for (const lane of lanes) lane.parkByHand(aggregate, byOf(by))
          return Logging.info(`${by.who} parks aggregate ${aggregate} of ${name}: ${by.why}`)
        })),
    release: (target, options) => command(target, options, "release"),
    discard: (target, options) => command(target, options, "discard"),
    parked: ({ after, limit = 100 } = {}) =>
      Effect.sync(() => {
        const most = pageOf(limit)
        const found = all().filter(([, { key }]) => after === undefined || key > after)
        const aggregates = found.slice(0, most).map(shown)
        return { aggregates, next: found.length > most ? aggregates[most - 1]!.aggregate : undefined }
      }),
    causes: Effect.sync(() => causesOf(all())),
    letters: (aggregate, options = {}) =>
      Effect.map(
        Effect.forEach(
          all().filter(([, { key }]) => key === aggregate),
          ([lane, one]) => lettersOf(lane, one, options)
        ),
        (lists) => lists.flat()
      )
  }
}

const byOf = ({ who, why }: Api.By): Letter.By => ({ who: Safely.cut(who, maxText), why: Safely.cut(why, maxText) })

const issueOf = (
  target: Api.Target,
  { offset, rate }: { readonly rate?: number | undefined; readonly offset?: number | undefined }
): string | undefined =>
  rate !== undefined && !(rate > 0 && rate < Infinity)
    ? `rate: expected a number above 0, got ${rate}`
    : !isTarget(target)
    ? "target: expected \"all\", or an object with aggregate, cause or where"
    : offset !== undefined && !(Number.isSafeInteger(offset) && typeof target === "object" && "aggregate" in target)
    ? "offset: expected a whole number, and the aggregate"
    : undefined

const isText = (value: unknown): value is string => typeof value === "string" && value !== ""

const isTarget = (target: unknown): boolean =>
  target === "all" ||
  Predicate.isReadonlyRecord(target) &&
    (isText(target["aggregate"]) || isText(target["cause"]) || typeof target["where"] === "function")

const isMeant = (target: Api.Target, [lane, one]: Found): boolean =>
  target === "all" ||
  ("aggregate" in target
    ? target.aggregate === one.key
    : "cause" in target
    ? target.cause === one.cause
    : target.where(shownOf(one, lane.partition)))

type Part = Pick<Command.Order, "aggregate" | "aggregates" | "cause"> & { readonly part?: number }

/** One order for each partition; where a function has picked them, as many as their names take. */
const ordersOf = (target: Api.Target, found: ReadonlyArray<Found>): ReadonlyArray<readonly [ParkedLane, Part]> => {
  const lanes = new Map<ParkedLane, Array<string>>()
  for (const [lane, { key }] of found) {
    const names = lanes.get(lane)
    if (names === undefined) lanes.set(lane, [key])
    else names.push(key)
  }
  if (typeof target !== "object" || !("where" in target)) {
    return Array.from(lanes.keys(), (lane) => [lane, target === "all" ? {} : target] as const)
  }
  return Array.from(lanes).flatMap(([lane, names]) =>
    Array.from(
      { length: Math.ceil(names.length / maxNames) },
      (_, part) => [lane, { aggregates: names.slice(part * maxNames, (part + 1) * maxNames), part }] as const
    )
  )
}

/** Writes an order to the store, and begins with it then. */
const send = (
  topic: string,
  lane: ParkedLane,
  { part, ...order }: Command.Order & Part
): Effect.Effect<void, PublishError> => {
  const whole = part === undefined ? order : { ...order, id: `${order.id}/${part}` }
  const stored = Effect.async<number, PublishError>((resume) => {
    const job: Job = { change: Command.encode(whole), done: (result) => resume(result) }
    lane.writer.push(job)
    return Effect.sync(() => {
      lane.writer.takeOut((other) => other === job)
    })
  })
  return stored.pipe(
    Effect.timeoutFail({
      duration: lane.settings.timeout,
      onTimeout: () => new PublishFailed({ topic, reason: "Timeout", outcome: "unknown" })
    }),
    Effect.map((revision) => lane.release.start({ ...whole, revision }))
  )
}

const shown = ([lane, one]: Found): Api.ParkedAggregate => shownOf(one, lane.partition)

const shownOf = (one: Parked, partition: number): Api.ParkedAggregate => ({
  aggregate: one.key,
  partition,
  letters: one.count,
  bytes: one.bytes,
  firstOffset: one.offsets[0],
  lastOffset: one.offsets.at(-1),
  since: one.since,
  last: one.last,
  cause: one.cause,
  message: one.text,
  state: one.releasedBy !== undefined
    ? "releasing"
    : one.blocked === "full" || one.blocked === "unwritable"
    ? one.blocked
    : "parked"
})

const reportOf = (found: ReadonlyArray<Found>, offset: number | undefined): Api.Report => ({
  aggregates: found.length,
  letters: found.reduce(
    (sum, [, one]) => sum + (offset === undefined ? one.count : one.offsets.includes(offset) ? 1 : 0),
    0
  ),
  listed: found.slice(0, maxPage).map(shown)
})

const causesOf = (found: ReadonlyArray<Found>): ReadonlyArray<Api.CauseGroup> => {
  const groups = new Map<string, { -readonly [K in keyof Api.CauseGroup]: Api.CauseGroup[K] }>()
  for (const [, { cause, count, last, since, text }] of found) {
    if (cause === undefined) continue
    const group = groups.get(cause)
    if (group === undefined) {
      groups.set(cause, { cause, message: text, aggregates: 1, letters: count, first: since, last })
      continue
    }
    group.aggregates++
    group.letters += count
    group.first = Math.min(group.first, since)
    if (last >= group.last) {
      group.last = last
      group.message = text ?? group.message
    }
  }
  return Array.from(groups.values()).sort((a, b) => b.aggregates - a.aggregates)
}

const lettersOf = (
  lane: ParkedLane,
  one: Parked,
  { after = -1, limit = 100, payload }: NonNullable<Parameters<Api.Parking["letters"]>[1]>
) =>
  Effect.suspend(() => {
    const { partition, settings: { store } } = lane
    const offsets = one.offsets.filter((offset) => offset > after)
      .slice(0, pageOf(limit))
    const keys = offsets.map((offset) => Letter.keyOf(one.key, offset, one.get(offset)!.owner))
    const from = Math.min(...offsets.map((offset) => one.get(offset)!.revision)) - 1
    const found = new Map<number, Api.Letter>()
    const wanted = new Set(keys)
    if (keys.length === 0) return Effect.succeed([])
    return Effect.map(
      Stream.runForEach(store.read(partition, { after: from, keys }), ({ key, value }) =>
        Effect.sync(() => {
          const letter = value === null || !wanted.has(key) ? undefined : Letter.decode(value, partition)
          if (letter !== undefined) found.set(letter.message.offset, letterOf(letter, partition, payload === true))
        })),
      () => offsets.flatMap((offset) => found.get(offset) ?? [])
    )
  })

const letterOf = ({ failures, message, parkedAt }: Letter.Letter, partition: number, payload: boolean): Api.Letter => {
  const { headers, key, offset, timestamp, topic, value } = message
  return {
    position: { topic, partition, offset },
    timestamp,
    parkedAt,
    failures,
    message: payload ? { key, value, headers } : undefined
  }
}
