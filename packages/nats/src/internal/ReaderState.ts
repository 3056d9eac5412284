/**
 * How the reading of one partition stands: all phases, and what may happen in them. Plain values, without a clock and a server. `Spell`
 * asks the server and `Intake` has the messages; they tell this what came of it, and do what the answer says.
 */

/** Why a spell of reading has ended; another one begins. */
export type Broken =
  | {
    readonly reason: "ConsumerDeleted" | "ConsumerChanged" | "LeaderChanged" | "Silence" | "Refused" | "Defect"
    readonly detail: string
  }
  | { readonly reason: "Disconnected" | "Gap" | "Alone" | "Rewritten" }

export type Phase =
  /** Stream and consumer are looked for. */
  | { readonly _tag: "Opening" }
  /** What is outstanding is got back. */
  | { readonly _tag: "Recovering"; /** Deliveries are missing since it was last asked for. */ readonly hasGap: boolean }
  | { readonly _tag: "Flowing" }
  | { readonly _tag: "Broken"; readonly broken: Broken }
  /** The partition is given back, lost, or the subscription closes: nothing more is handed over. */
  | { readonly _tag: "Stopped" }

export interface ReaderState {
  readonly phase: Phase
  /** What came is kept back, because something before it may be missing, or it is of another stream. */
  readonly keepsBack: boolean
  /** Who has to say that there is room, before more is handed over. */
  readonly waitsFor: "Nobody" | "Lane" | "Limit"
  /** Others read from the same consumer: gaps are what they got. */
  readonly isShared: boolean
  /** From which sequence on the stream is another one, until all has begun anew. */
  readonly changedFrom: number | undefined
  /** How many spells in a row nothing has answered, not even by a heartbeat. */
  readonly unanswered: number
}

export const initial: ReaderState = {
  phase: { _tag: "Opening" },
  keepsBack: true,
  waitsFor: "Nobody",
  isShared: false,
  changedFrom: undefined,
  unanswered: 0
}

export type Event =
  /** A spell begins. */
  | { readonly _tag: "Opens" }
  /** The stream is there; from a sequence on it is not the one that it was. */
  | { readonly _tag: "Found"; readonly changedFrom?: number | undefined }
  /** Lane and sequences are new. */
  | { readonly _tag: "StartedOver" }
  /** What is outstanding is asked for, for the first time or again. */
  | { readonly _tag: "Recovers"; readonly isShared?: boolean | undefined }
  /** All that was outstanding has come. */
  | { readonly _tag: "Recovered" }
  /** Deliveries are missing before the one that came. */
  | { readonly _tag: "Gap" }
  /** Another message has come at the sequence of one that is known. */
  | { readonly _tag: "Rewritten"; readonly sequence: number }
  | { readonly _tag: "Broke"; readonly broken: Broken }
  /** The spell's requests are over. */
  | { readonly _tag: "Ended"; readonly answer: "Heard" | "Silent" | "Unknown" }
  | { readonly _tag: "Refused"; readonly by: "Lane" | "Limit" }
  /** There is room. */
  | { readonly _tag: "Resumed"; readonly by: "Lane" | "Limit" }
  | { readonly _tag: "Stopped" }

/** What is to be done: nothing; hand over what waits; end the spell; begin anew with another stream; see to a consumer that says nothing. */
export type Next = "nothing" | "offer" | "break" | "start-over" | "replace"

/** After so many spells in a row that nothing has answered something is done about the consumer. */
const maxUnanswered = 2

export const step = (state: ReaderState, event: Event): readonly [ReaderState, Next] => {
  const { changedFrom, phase, unanswered, waitsFor } = state
  switch (event._tag) {
    case "Stopped":
      return [{ ...state, phase: { _tag: "Stopped" }, keepsBack: true }, "nothing"]
    case "Ended":
      return [{ ...state, unanswered: answers[event.answer](unanswered) }, "nothing"]
    case "Refused":
      return [{ ...state, waitsFor: event.by }, "nothing"]
    case "Resumed":
      // The other one has to say so, too.
      if (waitsFor !== "Nobody" && waitsFor !== event.by) return [state, "nothing"]
      return [{ ...state, waitsFor: "Nobody" }, phase._tag === "Stopped" ? "nothing" : "offer"]
    case "StartedOver":
      return [{ ...state, keepsBack: true, waitsFor: "Nobody", changedFrom: undefined, unanswered: 0 }, "nothing"]
    case "Rewritten":
      return broken({ ...state, changedFrom: lowest(changedFrom, event.sequence) }, { reason: "Rewritten" })
    case "Found": {
      const from = lowest(changedFrom, event.changedFrom)
      if (from !== undefined) return [{ ...state, changedFrom: from }, "start-over"]
      return unanswered < maxUnanswered ? [state, "nothing"] : [{ ...state, unanswered: 0 }, "replace"]
    }
    case "Broke":
      return phase._tag === "Broken" || phase._tag === "Stopped"
        ? [state, "nothing"]
        : [{ ...state, phase: { _tag: "Broken", broken: event.broken } }, "break"]
    case "Gap":
      if (phase._tag === "Recovering") return [{ ...state, phase: { ...phase, hasGap: true } }, "nothing"]
      return phase._tag === "Flowing"
        ? broken(state, { reason: "Gap" })
        : [{ ...state, keepsBack: true }, "nothing"]
    default:
      return phase._tag === "Stopped" ? [state, "nothing"] : advance(state, event)
  }
}

const advance = (
  state: ReaderState,
  event: Extract<Event, { readonly _tag: "Opens" | "Recovers" | "Recovered" }>
): readonly [ReaderState, Next] => {
  switch (event._tag) {
    case "Opens":
      // What came before it broke can go on being handed over, if nothing before it is missing.
      return [{ ...state, phase: { _tag: "Opening" } }, "nothing"]
    case "Recovers": {
      const { isShared = state.isShared } = event
      return [{ ...state, phase: { _tag: "Recovering", hasGap: false }, keepsBack: true, isShared }, "nothing"]
    }
    case "Recovered":
      // Something can have broken it in the same moment.
      if (state.phase._tag === "Broken") return [state, "nothing"]
      return hasGap(state)
        ? broken(state, { reason: "Gap" })
        : [{ ...state, phase: { _tag: "Flowing" }, keepsBack: false }, "offer"]
  }
}

/** What came from now on is not in order, or of another stream. */
const broken = (state: ReaderState, broken: Broken): readonly [ReaderState, Next] =>
  state.phase._tag === "Broken" || state.phase._tag === "Stopped"
    ? [{ ...state, keepsBack: true }, "nothing"]
    : [{ ...state, phase: { _tag: "Broken", broken }, keepsBack: true }, "break"]

const answers = {
  Heard: () => 0,
  Silent: (unanswered: number) => unanswered + 1,
  Unknown: (unanswered: number) => unanswered
}

const lowest = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined || other === undefined ? one ?? other : Math.min(one, other)

/** Whether messages are handed over, and more of them are wanted. */
export const isOpen = ({ keepsBack, waitsFor }: ReaderState): boolean => !keepsBack && waitsFor === "Nobody"

/** Whether deliveries are missing since what is outstanding was last asked for. */
export const hasGap = ({ phase }: ReaderState): boolean => phase._tag === "Recovering" && phase.hasGap

/** One state, and what becomes of it. */
export class ReaderLife {
  state: ReaderState = initial

  tell(event: Event): Next {
    const [state, next] = step(this.state, event)
    this.state = state
    return next
  }
}
