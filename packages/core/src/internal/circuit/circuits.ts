import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Runtime from "effect/Runtime"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Change, Service } from "../../Circuit.js"
import type * as Observer from "../../Observer.js"
import type { Problem } from "../../Transport.js"
import * as Closing from "../closing.js"
import type { Flight } from "../flight.js"
import * as Logging from "../logging.js"
import { Ration } from "../ration.js"
import * as Safely from "../safely.js"
import { Circuit, type Surroundings, type Trial } from "./circuit.js"
import type { Member } from "./member.js"

/** So many names of circuits are known. A subscription that comes with more has a circuit of its own instead. */
const maxNames = 1_000

/** How many changes wait for a slow reader. */
const changesCapacity = 256

const maxName = 200

/** What belongs to one subscription alone. */
interface Own {
  circuit?: Circuit
  guard?: Circuit
}

/**
 * The circuits of a bus.
 *
 * @internal
 */
export class Circuits {
  private readonly named = new Map<string, Circuit>()
  private readonly own = new Map<Member, Own>()

  constructor(
    private readonly surroundings: Surroundings,
    private readonly published: PubSub.PubSub<Change>
  ) {}

  /** The circuit of a name; without one that of the subscription. */
  circuit(given: string | undefined, member: Member, probe: Schedule.Schedule<unknown> | undefined): Circuit {
    const name = typeof given === "string" ? Safely.cut(given, maxName) : undefined
    const found = name === undefined ? undefined : this.named.get(name)
    if (found !== undefined) return found
    if (name === undefined || this.named.size >= maxNames) {
      return this.ownOf(member).circuit ??= new Circuit(member.name, "circuit", this.surroundings, probe)
    }
    const made = new Circuit(name, "circuit", this.surroundings, probe)
    this.named.set(name, made)
    return made
  }

  guard(member: Member, probe: Schedule.Schedule<unknown> | "never"): Circuit {
    return this.ownOf(member).guard ??= new Circuit(member.name, "guard", this.surroundings, probe)
  }

  /** A message has failed by something that no circuit is for. */
  answered(flight: Flight): void {
    const trial = flight.trial as Trial | undefined
    trial?.probesFor?.answered(flight)
  }

  /** What keeps a subscription from going on now. */
  problemsOf(member: Member): ReadonlyArray<Problem> {
    return this.all.filter((circuit) => circuit.isOpen && circuit.has(member)).map((circuit) => {
      const { isByHand, kind, name, openedAt, reason, since } = circuit.shown
      const message = kind === "guard"
        ? `The guard has stopped it, because too many messages would be given up: ${reason}. Mend what they fail at, then say control.goOn`
        : isByHand
        ? `Somebody has opened its circuit "${name}", and has to close it: ${reason}`
        : `It waits for the dependency "${name}", which is down: ${reason}`
      return { message, since: openedAt ?? since, kind }
    })
  }

  leave(member: Member): void {
    for (const circuit of this.all) circuit.leave(member)
    this.own.delete(member)
    for (const [name, circuit] of this.named) if (circuit.isUnused && !circuit.isOpen) this.named.delete(name)
  }

  readonly service: Service = {
    list: Effect.sync(() => this.all.map(({ shown }) => shown)),
    open: (name, { reason } = {}) =>
      Effect.sync(() => {
        const found = this.find(name)
        found?.openByHand(reason ?? "no reason was given")
        return found !== undefined
      }),
    close: (name) =>
      Effect.sync(() => {
        const found = this.find(name)
        if (found?.isOpen !== true) return false
        found.close()
        return true
      }),
    changes: Stream.suspend(() => Stream.fromPubSub(this.published))
  }

  private find(name: string): Circuit | undefined {
    return this.named.get(name) ?? this.all.find((circuit) => circuit.kind === "circuit" && circuit.name === name)
  }

  private get all(): ReadonlyArray<Circuit> {
    const own = Array.from(this.own.values(), ({ circuit, guard }) => [circuit, guard])
    return [...this.named.values(), ...own.flat().filter((one) => one !== undefined)]
  }

  private ownOf(member: Member): Own {
    const found = this.own.get(member) ?? {}
    this.own.set(member, found)
    return found
  }
}

/**
 * The circuits of a bus, until its scope ends.
 *
 * @internal
 */
export const make = (observer: Observer.Service): Effect.Effect<Circuits, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const log = yield* Logging.atOnce
    const run = Runtime.runFork(yield* Logging.unbreakable(Effect.runtime<never>()))
    const fork = (effect: Effect.Effect<void>) => run(Effect.interruptible(effect), { scope })
    const published = yield* Effect.acquireRelease(PubSub.sliding<Change>(changesCapacity), PubSub.shutdown)
    const ration = new Ration(
      (left) => Logging.warning(`${left} more openings and closings of circuits were left out`, { left }),
      fork
    )
    return new Circuits(
      {
        time: () => clock.unsafeCurrentTimeMillis(),
        changed: (change) => {
          observer.event?.({ _tag: "Circuit", change })
          published.unsafeOffer(change)
          const line = lineOf(change)
          if (line !== undefined) log(ration.line(line))
        },
        warn: (text) => log(ration.line(Logging.warning(text))),
        fork
      },
      published
    )
  })

const lineOf = ({ from, isByHand, kind, name, openFor, reason, state, subscriptions }: Change) => {
  const notes = { circuit: name }
  if (state === "closed") {
    // The last of them has ended.
    if (subscriptions.length === 0) return undefined
    const seconds = Math.round((openFor ?? 0) / 100) / 10
    return Logging.info(
      kind === "guard"
        ? `Subscription ${name} goes on after ${seconds} s. Its guard counts from zero`
        : `Circuit "${name}" is closed after ${seconds} s, and all go on: ${Closing.some(subscriptions)}`,
      notes
    )
  }
  if (from !== "closed") return undefined
  return Logging.warning(
    kind === "guard"
      ? `The guard has stopped subscription ${name}, because too many messages would be given up: ${reason}. Nothing more is begun or lost. Mend what they fail at, then say control.goOn. Or set other bounds, or guard: "off"`
      : `Circuit "${name}" is open, and nothing begins in ${Closing.some(subscriptions)} until ${
        isByHand ? "somebody closes it" : "a message that probes has succeeded"
      }: ${reason}`,
    notes
  )
}
