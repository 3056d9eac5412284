import type { Rollout } from "@effect-eventbus/core"
import type { Client } from "./GroupMetrics.js"
import { type Definition, own } from "./Instruments.js"

type Update = (value: number) => void
type SideName = "baseline" | "candidate"

const sides: ReadonlyArray<SideName> = ["baseline", "candidate"]

/** So many strategies are told apart, each on its side. Their names are the user's. */
const maxStrategies = 64
const other = "_OTHER"

const seconds = (millis: number | undefined): number => (millis ?? 0) / 1000

const perMessage = (count: number, messages: number): number => messages === 0 ? 0 : count / messages

/** What each gauge of a side is set to. */
const ofSide: ReadonlyArray<readonly [Definition, (side: Rollout.Side) => number]> = [
  [own.rolloutMessages, ({ messages }) => messages],
  [own.rolloutThroughput, ({ throughput }) => throughput],
  [own.rolloutLatency, ({ p99 }) => seconds(p99)],
  [own.rolloutWait, ({ waiting }) => seconds(waiting)],
  [own.rolloutHandling, ({ handling }) => seconds(handling)],
  [own.rolloutErrors, ({ errors, messages }) => perMessage(errors, messages)],
  [own.rolloutRestarts, ({ messages, restarts }) => perMessage(restarts, messages)],
  [own.rolloutLost, ({ lost }) => lost]
]

/** The gauges of one side, while it has one strategy. */
class SideMetrics {
  private readonly share: Update
  private readonly figures: ReadonlyArray<readonly [Update, (side: Rollout.Side) => number]>

  constructor(client: Client, labels: { readonly side: SideName; readonly strategy: string }) {
    this.share = client.own(own.rolloutShare, labels)
    this.figures = ofSide.map(([definition, of]) => [client.own(definition, labels), of])
  }

  /** Without figures nothing was measured yet, or it is over. */
  set(share: number, figures: Rollout.Side | undefined): void {
    this.share(share)
    for (const [update, of] of this.figures) update(figures === undefined ? 0 : of(figures))
  }
}

/**
 * What is measured of a bus's strategies: which it has, and how both sides of a rollout do. Of each step the gauges begin at 0, and they are 0 again when
 * the rollout has ended.
 *
 * @internal
 */
export class RolloutMetrics {
  private readonly made = new Map<string, SideMetrics>()
  private readonly infos = new Map<string, Update>()
  /** The infos that are 1. */
  private shown: ReadonlyArray<Update> = []
  private readonly outcomes: Readonly<Record<Exclude<Rollout.State["status"], "running">, Update>>
  private readonly running: Update
  private readonly heapBefore: Update
  private readonly heapNow: Update
  /** The rollout that runs. */
  private state: Rollout.State | undefined
  private hasEnded = false

  constructor(private readonly client: Client, strategy: string) {
    const outcome = (outcome: string) => client.own(own.rollouts, { outcome })
    this.outcomes = {
      promoted: outcome("promoted"),
      "rolled-back": outcome("rolled-back"),
      superseded: outcome("superseded")
    }
    this.running = client.own(own.rolloutRunning, {})
    this.heapBefore = client.own(own.rolloutHeap, { when: "before" })
    this.heapNow = client.own(own.rolloutHeap, { when: "now" })
    this.show(strategy, undefined)
  }

  /** A switch that is not the rollout's ends it, also where its scope has ended, of which no other event tells. */
  switched(to: string, candidate: string | undefined): void {
    if (this.hasEnded) return
    this.show(to, candidate)
    if (this.state !== undefined && candidate !== this.state.candidate) this.over()
  }

  changed({ after, kind }: Rollout.Change): void {
    if (this.hasEnded) return
    this.over()
    if (after.status === "running") this.begin(after)
    // What is resumed has ended before, and was counted then.
    else if (kind !== "resumed") this.outcomes[after.status](1)
  }

  analysed(state: Rollout.State, figures: Rollout.Figures): void {
    if (this.hasEnded || this.state === undefined) return
    this.set(state, figures)
  }

  /** The bus has ended. */
  end(): void {
    this.over()
    for (const update of this.shown) update(0)
    this.hasEnded = true
  }

  private begin(state: Rollout.State): void {
    this.state = state
    this.running(1)
    this.set(state, undefined)
  }

  private set(state: Rollout.State, figures: Rollout.Figures | undefined): void {
    const share = shareOf(state, figures)
    for (const side of sides) {
      this.side(side, state[side]).set(side === "candidate" ? share : 1 - share, figures?.[side])
    }
    this.heapBefore(figures?.heap.before ?? 0)
    this.heapNow(figures?.heap.now ?? 0)
  }

  private over(): void {
    const { state } = this
    if (state === undefined) return
    this.state = undefined
    this.running(0)
    for (const side of sides) this.side(side, state[side]).set(0, undefined)
    this.heapBefore(0)
    this.heapNow(0)
  }

  private show(strategy: string, candidate: string | undefined): void {
    for (const update of this.shown) update(0)
    this.shown = [
      this.info("baseline", strategy),
      ...(candidate === undefined ? [] : [this.info("candidate", candidate)])
    ]
    for (const update of this.shown) update(1)
  }

  private info(side: SideName, strategy: string): Update {
    return kept(this.infos, side, strategy, (labels) => this.client.own(own.dispatch, labels))
  }

  private side(side: SideName, strategy: string): SideMetrics {
    return kept(this.made, side, strategy, (labels) => new SideMetrics(this.client, labels))
  }
}

/** Where a function decides it is the part of the messages. */
const shareOf = ({ share }: Rollout.State, figures: Rollout.Figures | undefined): number => {
  if (share !== null) return share
  if (figures === undefined) return 0
  const { baseline, candidate } = figures
  return perMessage(candidate.messages, candidate.messages + baseline.messages)
}

const kept = <A>(
  all: Map<string, A>,
  side: SideName,
  strategy: string,
  make: (labels: { readonly side: SideName; readonly strategy: string }) => A
): A => {
  const key = `${side}/${strategy}`
  const found = all.get(key)
  if (found !== undefined) return found
  if (all.size >= maxStrategies && strategy !== other) return kept(all, side, other, make)
  const made = make({ side, strategy })
  all.set(key, made)
  return made
}
