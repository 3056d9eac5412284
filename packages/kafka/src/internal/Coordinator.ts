/**
 * What a member asks the coordinator of its group: who that is, the request, and what
 * its answer makes of the state. All that a member asks goes through here.
 */
import * as Effect from "effect/Effect"
import type { KafkaFailure } from "./Failure.js"
import type { GroupDriver } from "./GroupDriver.js"
import * as GroupState from "./GroupState.js"

/** A request that failed, and what follows from it. */
export class Refused {
  readonly _tag = "Refused"
  constructor(readonly failure: KafkaFailure, readonly next: GroupState.Next) {}
}

export interface Coordinator {
  readonly state: () => GroupState.GroupState
  readonly dispatch: (event: GroupState.Event) => GroupState.Next
  /** As whom something is asked now. */
  readonly ticket: (request: GroupState.Request) => GroupState.Ticket
  readonly ask: <A>(
    request: GroupState.Request,
    of: (node: number) => Effect.Effect<A, KafkaFailure>
  ) => Effect.Effect<A, Refused>
  /** Takes note of a failure, and says what follows. */
  readonly refuse: (request: GroupState.Request, ticket: GroupState.Ticket) => (failure: KafkaFailure) => Refused
  readonly isJoining: () => boolean
  /** The group has said something that brings the first assignment nearer. */
  readonly progressed: () => void
  readonly progressAt: () => number
  readonly lastFailure: () => KafkaFailure | undefined
}

export interface CoordinatorOptions {
  readonly driver: GroupDriver
  /** Milliseconds of a clock that nobody sets. */
  readonly now: () => number
  readonly findWithinMs: number
  /** The group is to be joined again. */
  readonly onWanted: () => void
}

export const make = ({ driver, findWithinMs, now, onWanted }: CoordinatorOptions): Coordinator => {
  let state = GroupState.initial
  let progressAt = now()
  let lastFailure: KafkaFailure | undefined

  const dispatch = (event: GroupState.Event): GroupState.Next => {
    const [next, then] = GroupState.step(state, event)
    state = next
    if (state.wantsJoin) onWanted()
    return then
  }

  const node = Effect.suspend(() =>
    state.coordinator !== undefined
      ? Effect.succeed(state.coordinator)
      : Effect.tap(driver.findCoordinator(findWithinMs), (node) => Effect.sync(() => dispatch({ _tag: "Found", node })))
  )

  const isJoining = () => GroupState.isJoining(state)

  const ticket = (request: GroupState.Request) => GroupState.ticket(state, request, now())

  const refuse: Coordinator["refuse"] = (request, ticket) => (failure) => {
    const isAside = request === "DescribeGroups" || (request === "Heartbeat" && ticket.counted < 0)
    if (!isAside || failure.isUnreachable) lastFailure = failure
    // A coordinator that refuses a request is there, so joining makes progress.
    const isAnswer = !failure.isUnreachable && !failure.isOurs
    if (isAnswer && (request !== "Heartbeat" || isJoining())) progressAt = now()
    return new Refused(failure, dispatch({ _tag: "Refused", request, type: failure.type, ticket }))
  }

  return {
    state: () => state,
    dispatch,
    ticket,
    ask: (request, of) =>
      Effect.suspend(() => Effect.mapError(Effect.flatMap(node, of), refuse(request, ticket(request)))),
    refuse,
    isJoining,
    progressed: () => {
      progressAt = now()
    },
    progressAt: () => progressAt,
    lastFailure: () => lastFailure
  }
}
