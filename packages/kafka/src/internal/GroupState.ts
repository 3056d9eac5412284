/**
 * How a member stands with its group: all states and all that may happen in them.
 * Plain values, without a clock and a broker. `Membership` asks the coordinator, tells
 * this what came of it, and does what the answer says.
 */
import type { FailureType } from "./Failure.js"
import type { GroupRequest } from "./GroupDriver.js"

export type Phase =
  /** The group does not count on it: it has not joined yet, or was thrown out, or may have been. */
  | { readonly _tag: "Outside" }
  /** It waits until the group is complete. It may have partitions of the generation before, and goes on with them. */
  | { readonly _tag: "Joining" }
  /** The group is complete, and its leader shares the partitions out. */
  | { readonly _tag: "Syncing"; readonly generation: number }
  | { readonly _tag: "Member"; readonly generation: number }
  /** It has left, and comes back no more. */
  | { readonly _tag: "Left" }
  /** Waiting can't mend it. */
  | { readonly _tag: "Broken"; readonly type: FailureType }

export interface GroupState {
  readonly phase: Phase
  /** Empty until the group has given one. */
  readonly memberId: string
  readonly coordinator: number | undefined
  /** Of the last assignment, which commits and what it says of its partitions refer to; −1 before the first one. */
  readonly generation: number
  /** Whether it has what that assignment gave: it was not lost since. */
  readonly holds: boolean
  /** That of the last join that was answered, also where the assignment never came; −1 before the first one. */
  readonly joined: number
  /**
   * What heartbeats say: `joined`, or where the coordinator does not know that one, `generation`; −1 while the group does not
   * count on it.
   */
  readonly counted: number
  /** When the coordinator is known to have heard of it, in milliseconds of a clock that nobody sets. */
  readonly contact: number
  /** Counts the joins. */
  readonly round: number
  /** The group is to be joined again. */
  readonly wantsJoin: boolean
  /** It has had partitions: what is refused from then on may be mended by waiting. */
  readonly stood: boolean
}

export const initial: GroupState = {
  phase: { _tag: "Outside" },
  memberId: "",
  coordinator: undefined,
  generation: -1,
  holds: false,
  joined: -1,
  counted: -1,
  contact: 0,
  round: 0,
  wantsJoin: true,
  stood: false
}

/** As whom, and when, something was asked: answers that are late say nothing of what is now. */
export interface Ticket {
  readonly round: number
  readonly memberId: string
  /** The generation that was named. */
  readonly counted: number
  readonly sentAt: number
}

/** Commits are of the last assignment, also while the next one is under way. */
export const ticket = (
  { counted, generation, memberId, round }: GroupState,
  request: Request,
  sentAt: number
): Ticket => ({
  round,
  memberId,
  counted: request === "OffsetCommit" ? generation : counted,
  sentAt
})

/**
 * `Begin` is what comes after the assignment: finding out where partitions begin; `Plan` is what the leader does; `Proof`
 * asks whether the generation before is the group's.
 */
export type Request = GroupRequest | "Plan" | "Begin" | "Proof"

export type Event =
  | { readonly _tag: "Found"; readonly node: number }
  | { readonly _tag: "Joining" }
  | { readonly _tag: "Named"; readonly memberId: string }
  | { readonly _tag: "Joined"; readonly memberId: string; readonly generation: number }
  | { readonly _tag: "Synced"; readonly generation: number; readonly sentAt: number }
  | { readonly _tag: "Stands" }
  | { readonly _tag: "Beaten"; readonly ticket: Ticket }
  /** The coordinator counts on it in the generation of its assignment. */
  | { readonly _tag: "Proven"; readonly ticket: Ticket }
  | { readonly _tag: "Refused"; readonly request: Request; readonly type: FailureType; readonly ticket: Ticket }
  /** No heartbeat was answered for so long that the partitions may be given to others soon. */
  | { readonly _tag: "Silent" }
  /** Something asks for a new generation. */
  | { readonly _tag: "Wanted" }
  | { readonly _tag: "Leaving" }

/**
 * What is to be done: nothing; the same again after a while; join again, with what it has; the same, where the group is proven to
 * be in the generation that gave it that; let go of everything, for others may have it, and then join again; give up.
 */
export type Next = "nothing" | "retry" | "rejoin" | "prove" | "lose" | "fail"

/** What an error means, whatever was asked. */
export type Outcome =
  /** The same again after a while. */
  | "retry"
  /** The coordinator is somebody else, or can't be reached: it is looked for again, and then the same again. */
  | "find-coordinator"
  /** The group gathers anew: join again with the same id. */
  | "rejoin"
  /** The generation is over: what was owned in it may be others'. Join again with the same id. */
  | "rejoin-lost"
  /** The group does not know the member any more: the same, without the id. */
  | "rejoin-anew"
  /** Somebody has to change something: before the subscription stands it fails; later it is said, and tried again. */
  | "refused"
  /** Another process has taken its place: it ends, whenever that happens. */
  | "replaced"

const outcomes: Readonly<Partial<Record<FailureType, Outcome>>> = {
  Connection: "find-coordinator",
  Timeout: "find-coordinator",
  COORDINATOR_NOT_AVAILABLE: "find-coordinator",
  NOT_COORDINATOR: "find-coordinator",
  REBALANCE_IN_PROGRESS: "rejoin",
  ILLEGAL_GENERATION: "rejoin-lost",
  UNKNOWN_MEMBER_ID: "rejoin-anew",
  FENCED_INSTANCE_ID: "replaced",
  UNRELEASED_INSTANCE_ID: "replaced",
  Authentication: "refused",
  CLUSTER_AUTHORIZATION_FAILED: "refused",
  GROUP_AUTHORIZATION_FAILED: "refused",
  INCONSISTENT_GROUP_PROTOCOL: "refused",
  INVALID_GROUP_ID: "refused",
  INVALID_SESSION_TIMEOUT: "refused",
  INVALID_TOPIC_EXCEPTION: "refused",
  TOPIC_AUTHORIZATION_FAILED: "refused",
  UNSUPPORTED_VERSION: "refused"
}

/** Whatever is not known may pass by itself. */
export const outcomeOf = (type: FailureType): Outcome => outcomes[type] ?? "retry"

export const step = (state: GroupState, event: Event): readonly [GroupState, Next] => {
  const { _tag } = state.phase
  if (_tag === "Left" || _tag === "Broken") return [state, "nothing"]
  switch (event._tag) {
    case "Found":
      return [{ ...state, coordinator: event.node }, "nothing"]
    case "Joining":
      return [{ ...state, phase: { _tag: "Joining" }, round: state.round + 1, wantsJoin: false }, "nothing"]
    case "Named":
      return [{ ...state, memberId: event.memberId }, "nothing"]
    case "Joined":
      // The leader may take its time: the group has this generation already, and no other heartbeat counts.
      return [{
        ...state,
        phase: { _tag: "Syncing", generation: event.generation },
        memberId: event.memberId,
        joined: event.generation,
        counted: event.generation
      }, "nothing"]
    case "Synced":
      return [{
        ...state,
        phase: { _tag: "Member", generation: event.generation },
        generation: event.generation,
        holds: true,
        // The group may have been lost meanwhile.
        counted: event.generation,
        // The answer may have been long under way, and the session runs since it was given.
        contact: Math.max(state.contact, event.sentAt)
      }, "nothing"]
    case "Stands":
      return [{ ...state, stood: true }, "nothing"]
    case "Beaten":
      return [{ ...state, contact: Math.max(state.contact, event.ticket.sentAt) }, "nothing"]
    case "Proven":
      return [{ ...state, contact: Math.max(state.contact, event.ticket.sentAt) }, "rejoin"]
    case "Refused":
      return refused(state, event.request, event.type, event.ticket)
    case "Silent":
      return [outside(state), "lose"]
    case "Wanted":
      return [{ ...state, wantsJoin: true }, "rejoin"]
    case "Leaving":
      return [{ ...state, phase: { _tag: "Left" }, counted: -1 }, "nothing"]
  }
}

const outside = (state: GroupState): GroupState => ({
  ...state,
  phase: { _tag: "Outside" },
  holds: false,
  counted: -1,
  wantsJoin: true
})

/** Those that wait for the group in turn; all others go on beside them. */
const ofJoining = new Set<Request>(["FindCoordinator", "JoinGroup", "SyncGroup", "Plan", "Begin", "Proof"])

const refused = (
  state: GroupState,
  request: Request,
  type: FailureType,
  ticket: Ticket
): readonly [GroupState, Next] => {
  const outcome = outcomeOf(type)
  // Whatever is no proof is none.
  if (request === "Proof" && outcome !== "rejoin" && outcome !== "replaced") {
    const lost = outside(outcome === "rejoin-anew" ? { ...state, memberId: "" } : state)
    return [outcome === "find-coordinator" ? { ...lost, coordinator: undefined } : lost, "lose"]
  }
  switch (outcome) {
    case "retry":
      return [state, "retry"]
    case "find-coordinator":
      // A leader of partitions that can't be reached says nothing of the coordinator.
      return [request === "Plan" || request === "Begin" ? state : { ...state, coordinator: undefined }, "retry"]
    case "rejoin": {
      const heard = request === "Heartbeat" || request === "Proof"
        ? { ...state, contact: Math.max(state.contact, ticket.sentAt) }
        : state
      if (ofJoining.has(request)) return [heard, "rejoin"]
      return isOfNow(state, ticket) ? [{ ...heard, wantsJoin: true }, "rejoin"] : [heard, "nothing"]
    }
    case "rejoin-lost":
    case "rejoin-anew": {
      // While it joins, the generation that was asked about may be over; also when the answer comes after the join.
      if (!ofJoining.has(request) && !isOfNow(state, ticket)) {
        return [request === "Heartbeat" && outcome === "rejoin-lost" ? saysAnother(state, ticket) : state, "nothing"]
      }
      // A coordinator that has come back, or is another one, knows those generations only whose assignments were stored. If the
      // group is in the one before, nobody was given anything since.
      if (request === "SyncGroup" && outcome === "rejoin-lost" && state.holds) {
        return [{ ...state, counted: state.generation }, "prove"]
      }
      return [outside(outcome === "rejoin-anew" ? { ...state, memberId: "" } : state), "lose"]
    }
    case "replaced":
      // A heartbeat that only asks whether the coordinator is there, while it joins for the first time, has no place to lose.
      if (!ofJoining.has(request) && (state.counted < 0 || ticket.memberId !== state.memberId)) {
        return [state, "nothing"]
      }
      return [{ ...outside(state), phase: { _tag: "Broken", type } }, "fail"]
    case "refused":
      // What is refused beside joining lasts, or joining finds out, too.
      if (state.stood || !ofJoining.has(request)) return [state, "retry"]
      return [{ ...outside(state), phase: { _tag: "Broken", type } }, "fail"]
  }
}

const isOfNow = (state: GroupState, ticket: Ticket): boolean =>
  state.phase._tag === "Member" && ticket.round === state.round && ticket.counted === state.counted

/** The coordinator may not know the generation that was joined, or know no other one: the next heartbeat says that one. */
const saysAnother = (state: GroupState, ticket: Ticket): GroupState =>
  isJoining(state) && state.holds && ticket.round === state.round && ticket.counted === state.counted
    ? { ...state, counted: state.counted === state.joined ? state.generation : state.joined }
    : state

export const isJoining = ({ phase: { _tag } }: GroupState): boolean => _tag === "Joining" || _tag === "Syncing"
