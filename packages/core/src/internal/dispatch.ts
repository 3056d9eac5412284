import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Dispatch from "../Dispatch.js"
import type * as EventBusConfig from "../EventBusConfig.js"
import { InvalidConfiguration } from "../EventBusError.js"
import type * as Observer from "../Observer.js"
import type * as Strategy from "../Strategy.js"
import type { Flight } from "./flight.js"
import * as Logging from "./logging.js"
import type { Mailbox, Mailboxes } from "./mailboxes.js"
import * as Strategies from "./strategies.js"

/** How many aggregates a report names. */
const most = 100

/** @internal */
export interface Settings {
  readonly mailboxes: Mailboxes
  readonly guard: (strategy: Strategy.Service) => Strategy.Service
  readonly config: EventBusConfig.Service
  readonly observer: Observer.Service
}

/**
 * Switches the strategy of a bus.
 *
 * @internal
 */
export const make = (settings: Settings): Effect.Effect<Dispatch.Service> =>
  Effect.map(Effect.runtime<never>(), (runtime) => {
    const { config, guard, mailboxes, observer } = settings
    const say = (text: string) => void Runtime.runSyncExit(runtime)(Logging.info(text))

    const report = (): Dispatch.Report => {
      const left = mailboxes.left()
      return {
        strategy: mailboxes.current.strategy,
        remaining: left.length,
        aggregates: left.slice(0, most).map(([subscription, mailbox]) => remaining(subscription, mailbox))
      }
    }

    const apply = (strategy: Strategy.Service, carries: boolean): Dispatch.Report => {
      const from = mailboxes.current.strategy
      const to = guard(strategy)
      if (from === to) {
        mailboxes.switchTo(to, carries)
        return report()
      }
      mailboxes.onMoved = () => {
        say(`Dispatch: all aggregates have moved from ${from.name} to ${to.name}`)
        observer.event?.({ _tag: "Moved", from: from.name, to: to.name })
      }
      say(`Dispatch: from ${Strategies.describe(from, config)} to ${Strategies.describe(to, config)}`)
      observer.event?.({ _tag: "Switched", from: from.name, to: to.name })
      mailboxes.switchTo(to, carries)
      return report()
    }

    return {
      report: Effect.sync(report),
      switchTo: (given, options) =>
        Effect.suspend(() => {
          const strategy = typeof given === "string" ? Strategies.named(given, config.poolSize) : given
          const issues = Strategies.issuesOf(strategy)
          return issues.length > 0 ? new InvalidConfiguration({ issues }) : Effect.zipRight(
            outside,
            Effect.sync(() => apply(strategy, options?.waiting === "move"))
          )
        }),
      moved: (within) => Effect.suspend(() => Effect.map(mailboxes.allMoved.waitFor(Duration.decode(within)), report))
    }
  })

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
