import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Dispatch from "../Dispatch.js"
import type * as EventBusConfig from "../EventBusConfig.js"
import { InvalidConfiguration } from "../EventBusError.js"
import type * as Observer from "../Observer.js"
import * as Partitioner from "../Partitioner.js"
import type * as Strategy from "../Strategy.js"
import type { Mailbox } from "./addressBook.js"
import type { Flight } from "./flight.js"
import * as Logging from "./logging.js"
import type { Mailboxes } from "./mailboxes.js"
import * as Safely from "./safely.js"
import * as Strategies from "./strategies.js"
import type { Watched } from "./watched.js"

/** How many aggregates a report names. */
const most = 100

/** @internal */
export interface Settings {
  readonly mailboxes: Mailboxes
  readonly guard: (strategy: Strategy.Service) => Strategy.Service
  readonly config: EventBusConfig.Service
  readonly observer: Watched
}

/**
 * What a rollout needs of a bus besides switching it.
 *
 * @internal
 */
export interface Inside {
  readonly watched: Watched
  readonly guard: (strategy: Strategy.Service) => Strategy.Service
  readonly strategyOf: (given: Strategy.Service | Strategy.Name) => Strategy.Service
  readonly tell: (event: Observer.Event) => void
  /** Milliseconds since the epoch. */
  readonly time: () => number
}

const insides = new WeakMap<Dispatch.Service, Inside>()

/**
 * Undefined: it is not a bus's.
 *
 * @internal
 */
export const inside = (dispatch: Dispatch.Service): Inside | undefined => insides.get(dispatch)

/**
 * Switches the strategy of a bus.
 *
 * @internal
 */
export const make = (settings: Settings): Effect.Effect<Dispatch.Service> =>
  Effect.zipWith(Logging.atOnce, Effect.clock, (log, clock) => {
    const { config, guard, mailboxes, observer } = settings
    const say = (text: string) => log(Logging.info(text))
    const warn = (text: string) => log(Logging.warning(text))
    let canary: Dispatch.Canary | undefined

    const report = (): Dispatch.Report => {
      const left = mailboxes.left()
      return {
        strategy: mailboxes.current.strategy,
        canary,
        remaining: left.length,
        aggregates: left.slice(0, most).map(([subscription, mailbox]) => remaining(subscription, mailbox))
      }
    }

    const apply = (
      strategy: Strategy.Service,
      next: Dispatch.Canary | undefined,
      carries: boolean
    ): Dispatch.Report => {
      const from = mailboxes.current.strategy
      const to = guard(strategy)
      const candidate = next && {
        strategy: guard(next.strategy),
        isIts: typeof next.share === "number" ? byHash(next.share) : byUser(next.share, warn)
      }
      const isChange = from !== to || next !== undefined || canary !== undefined
      canary = next
      if (isChange) {
        const event = { from: from.name, to: to.name, candidate: next?.strategy.name }
        mailboxes.onMoved = () => {
          say(
            `Dispatch: all aggregates have moved, to ${to.name}${next === undefined ? "" : ` or ${next.strategy.name}`}`
          )
          observer.event?.({ _tag: "Moved", ...event })
        }
        say(
          `Dispatch: from ${Strategies.describe(from, config)} to ${Strategies.describe(to, config)}${
            next === undefined ? "" : `, and ${shareOf(next)} to ${Strategies.describe(next.strategy, config)}`
          }`
        )
        observer.event?.({ _tag: "Switched", ...event })
      }
      mailboxes.arrange(to, candidate, carries)
      return report()
    }

    const strategyOf = (given: Strategy.Service | Strategy.Name) =>
      typeof given === "string" ? Strategies.named(given, config.poolSize) : given

    const applied = (
      issues: ReadonlyArray<string>,
      strategy: () => Strategy.Service,
      next: Dispatch.Canary | undefined,
      options: Dispatch.Options | undefined
    ) =>
      issues.length > 0
        ? new InvalidConfiguration({ issues })
        : Effect.zipRight(outside, Effect.sync(() => apply(strategy(), next, options?.waiting === "move")))

    const service: Dispatch.Service = {
      report: Effect.sync(report),
      switchTo: (given, options) =>
        Effect.suspend(() => {
          const strategy = strategyOf(given)
          return applied(Strategies.issuesOf(strategy), () => strategy, undefined, options)
        }),
      canary: (given, share, options) =>
        Effect.suspend(() => {
          const strategy = strategyOf(given)
          const issues = [...Strategies.issuesOf(strategy), ...shareIssuesOf(share)]
          if (guard(strategy) === mailboxes.current.strategy) {
            issues.push(`canary: ${strategy.name} is the present strategy already`)
          }
          // The strategy of the rest stays, whatever it is by then.
          return applied(issues, () => mailboxes.current.strategy, { strategy, share }, options)
        }),
      moved: (within) => Effect.suspend(() => Effect.map(mailboxes.allMoved.waitFor(Duration.decode(within)), report))
    }
    insides.set(service, {
      watched: observer,
      guard,
      strategyOf,
      tell: (event) => observer.event?.(event),
      time: () => clock.unsafeCurrentTimeMillis()
    })
    return service
  })

const shareIssuesOf = (share: Dispatch.Share): ReadonlyArray<string> =>
  typeof share === "function" || share >= 0 && share <= 1
    ? []
    : [`canary: share: expected a number from 0 to 1, or a function, got ${String(share)}`]

const shareOf = ({ share }: Dispatch.Canary): string =>
  typeof share === "number" ? `${Math.round(share * 10_000) / 100} % of the aggregates` : "some aggregates"

/** The hash is not that of slots, so that a share has aggregates of all slots. */
const byHash = (share: number) => (key: string): boolean =>
  Partitioner.murmur2(encoder.encode(key)) + 2 ** 31 < share * 2 ** 32

const encoder = new TextEncoder()

/** A user's function is called while a transport offers messages, where a throw would end the partition. */
const byUser = (share: (key: string, subscription: string) => boolean, warn: (text: string) => void) => {
  let isSaid = false
  return (key: string, subscription: string): boolean => {
    try {
      return share(key, subscription) === true
    } catch (thrown) {
      if (!isSaid) {
        isSaid = true
        warn(
          `The canary's share threw (${
            Safely.nameOf(thrown)
          }). Such aggregates are not the candidate's, and this is said once.`
        )
      }
      return false
    }
  }
}

/** Not in the middle of an offer, where an observer or a codec may call this. */
const outside = Effect.async<void>((resume) => queueMicrotask(() => resume(Effect.void)))

const remaining = (subscription: string, mailbox: Mailbox): Dispatch.Remaining => {
  const { key, placement, size, slot } = mailbox
  const isIts = (task: unknown): task is Flight => (task as Flight).mailbox === mailbox
  const inHand = slot.taskInHand
  const first = isIts(inHand ?? {}) ? inHand as unknown as Flight : slot.waiting().find(isIts) as Flight | undefined
  return {
    subscription,
    key,
    strategy: placement.strategy.name,
    slot: slot.name,
    messages: size,
    state: first?.state ?? "queued",
    since: first?.since ?? 0,
    attempt: first?.attempt ?? 0
  }
}
