import type { Level, Reason } from "../Finding.js"

/**
 * Of each reason: how bad it is by default, and what would end it. The page for operators has the same rows.
 *
 * @internal
 */
export const remedies: { readonly [R in Reason]: { readonly level: Level; readonly remedy: string } } = {
  Stalled: {
    level: "critical",
    remedy:
      "See what the handler waits for. handlerTimeout ends one that hangs; a policy that ends retrying frees its aggregate"
  },
  StuckActor: {
    level: "critical",
    remedy: "Give long computations pauses (Effect.yieldNow), or a thread of their own"
  },
  Held: { level: "warning", remedy: "Mend what the handler fails at: held messages are tried again and again" },
  RestartsExhausted: {
    level: "warning",
    remedy: "The log has the defect: mend the handler, then redrive the dead letters"
  },
  DeadLetterFlood: {
    level: "critical",
    remedy:
      "Most messages are given up: stop the subscription, or mend what they all fail at, then redrive the dead letters"
  },
  DeadLetterFailing: {
    level: "critical",
    remedy: "See why the dead-letter topic can't be published to: its settings, its room, a right"
  },
  CommitFailing: {
    level: "critical",
    remedy: "See why the broker does not confirm settlements: what is handled meanwhile comes again"
  },
  LeaseFailing: {
    level: "critical",
    remedy: "See whether the server can be reached and the bucket of the leases has room"
  },
  FetchFailing: { level: "critical", remedy: "See whether the partition has a leader, and the log of the broker" },
  GroupUnsettled: {
    level: "critical",
    remedy: "See which members the group has: one that died is waited for until its session (lease) is over"
  },
  RightMissing: { level: "critical", remedy: "Give the user the right that the message names" },
  Paused: { level: "warning", remedy: "Somebody wants it so: resume the consumer, or end stepping down" },
  CircuitOpen: { level: "warning", remedy: "See why the dependency is down: all go on by themselves once it answers" },
  GuardStopped: {
    level: "critical",
    remedy: "Mend what the messages fail at, then say control.goOn. With other bounds of the guard it stops later"
  },
  Broken: { level: "critical", remedy: "Nothing is tried any more: start the process again, and report the fault" },
  Degraded: { level: "warning", remedy: "See which brokers are away" },
  Disconnected: { level: "critical", remedy: "See whether the network and the brokers are there" },
  NotSubscribed: { level: "critical", remedy: "See what the subscription waits for, in the log, or why it has ended" },
  ProbeMissed: {
    level: "critical",
    remedy: "Neither publishing nor subscribing can be relied on: see the other findings and the log"
  }
}
