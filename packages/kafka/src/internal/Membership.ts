/**
 * The membership of one consumer in its group: joining, heartbeats, rejoining,
 * leaving. It asks the coordinator, and does what `GroupState` makes of the answers.
 * Heartbeats have a link of their own and don't stop, whatever handlers, lanes,
 * drains and joins are doing.
 *
 * kafkajs's own group loop is not used: it sends heartbeats only between fetches,
 * joins again without waiting for anybody, and forgets what it owned.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import type { Settings } from "../KafkaConfig.js"
import type { Assignments, Member } from "./Assignor.js"
import { KafkaFailure } from "./Client.js"
import type { CommitRequest, CommittedOffset, Description, GroupDriver } from "./Driver.js"
import * as GroupProtocol from "./groupProtocol.js"
import * as GroupState from "./GroupState.js"
import type { Lasting } from "./Lasting.js"
import { monotonic } from "./monotonic.js"
import { Signal } from "./Signal.js"
import { errorType } from "./Wire.js"

export interface MembershipOptions {
  readonly driver: GroupDriver
  readonly settings: Pick<Settings, "sessionTimeout" | "rebalanceTimeout" | "heartbeatInterval" | "requestTimeout">
  readonly lasting: Lasting
  readonly topic: string
  /** The group keeps its place when it ends, for whoever comes with its instance id. */
  readonly isStatic: boolean
  /** Without a heartbeat for so long, the partitions are given up before the group gives them to others. */
  readonly fenceAfterMs: number
  /** The partitions it has. */
  readonly owned: () => ReadonlyArray<number>
  /** One of them starts nothing any more, because there was no heartbeat for too long: it has to be given up. */
  readonly isRefusing: () => boolean
  /** Who gets what; asked of the leader only. */
  readonly plan: (members: ReadonlyArray<Member>) => Effect.Effect<Assignments, KafkaFailure>
  /** Lets go of what it doesn't have any more, and begins with what is new; `true` when it let go of something. */
  readonly apply: (partitions: ReadonlyArray<number>, generation: number) => Effect.Effect<boolean, KafkaFailure>
  /** Waits until what was lost has ended here, as long as the session may last: no other can have it before. */
  readonly ended: Effect.Effect<void>
  /** The group is about to give the partitions to others, in so many milliseconds at the earliest; at 0 it may have done so. */
  readonly lost: (why: string, leftMs: number) => Effect.Effect<void>
}

export interface Membership {
  /** Completes with the first assignment, or with a failure that trying again can't end. */
  readonly standing: Deferred.Deferred<void, KafkaFailure>
  /** Fails when it is over for good, after it stood. */
  readonly broken: Deferred.Deferred<never, KafkaFailure>
  readonly run: Effect.Effect<never>
  /** Commits in the name of the member as it is now; the error code of each partition is the answer. */
  readonly commit: (
    commits: ReadonlyArray<CommitRequest>
  ) => Effect.Effect<ReadonlyMap<number, number>, KafkaFailure>
  /** What the group has committed. */
  readonly committed: (
    partitions: ReadonlyArray<number>
  ) => Effect.Effect<ReadonlyArray<CommittedOffset>, KafkaFailure>
  /**
   * In which it is a member, as far as it knows. −1 while it may have lost its partitions to others, and while it
   * joins: it has told the leader what it owns, and whatever it began now would be given to another.
   */
  readonly generation: () => number
  /** The group was new when its members came: where it has no position, it never had one. */
  readonly isNew: () => boolean
  /** Whether the group certainly has not given its partitions to others yet. */
  readonly isAlive: () => boolean
  /** Joins again, for the group to be balanced anew. */
  readonly rejoin: () => void
  /** Joins again over another connection, because the one before may be as silent as the one that was found to be. */
  readonly renew: Effect.Effect<void>
  /** Leaves the group; a static member keeps its place. */
  readonly leave: Effect.Effect<void, KafkaFailure>
  readonly phase: () => GroupState.Phase["_tag"]
  /** When the group last said anything that brings the first assignment nearer, by the clock of deadlines. */
  readonly progressAt: () => number
  readonly lastFailure: () => KafkaFailure | undefined
  /** What the coordinator says of the group. */
  readonly describe: Effect.Effect<Description, KafkaFailure>
}

/** Nobody was in the group before, or it was deleted. */
const FIRST_GENERATION = 1
/** How often it is looked at at least whether the session is about to end; when it is due, at once. */
const FENCE_TICK_MS = 250
/** The same while all is well: a timer that is due when the process wakes up comes at once. */
const REST_TICK_MS = 5_000
const BACKOFF_MS = 100
const MAX_BACKOFF_MS = 1_000
/** What somebody has to change is not asked for more often. */
const REFUSED_BACKOFF_MS = 5_000

/** A loop that broke for a reason nobody foresaw is started again so. */
const restart = Schedule.exponential("2 seconds").pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered,
  Schedule.resetAfter("1 minute")
)

/** A request that failed, and what follows from it. */
class Refused {
  readonly _tag = "Refused"
  constructor(readonly failure: KafkaFailure, readonly next: GroupState.Next) {}
}

export const make = (options: MembershipOptions): Effect.Effect<Membership> =>
  Effect.gen(function*() {
    const { driver, lasting, settings } = options
    const now = monotonic(yield* Effect.clock)
    const standing = yield* Deferred.make<void, KafkaFailure>()
    const broken = yield* Deferred.make<never, KafkaFailure>()
    const wake = new Signal()
    /** Several of them fit into the time that remains until the partitions are given up. */
    const beatWithin = Math.max(500, Math.min(settings.requestTimeout, Math.floor(options.fenceAfterMs / 4)))
    /** An answer to a join may have waited for all members. */
    const joinWithin = settings.rebalanceTimeout + settings.requestTimeout
    let state = GroupState.initial
    let progressAt = now()
    let lastFailure: KafkaFailure | undefined
    let isNew = false

    const dispatch = (event: GroupState.Event): GroupState.Next => {
      const [next, then] = GroupState.step(state, event)
      state = next
      if (state.wantsJoin) wake.notify()
      return then
    }

    // ---- asking ----

    const coordinator = Effect.suspend(() =>
      state.coordinator !== undefined
        ? Effect.succeed(state.coordinator)
        : Effect.tap(driver.findCoordinator(beatWithin), (node) => Effect.sync(() => dispatch({ _tag: "Found", node })))
    )

    /** Takes note of a failure, and says what follows. */
    const refuse = (request: GroupState.Request, ticket: GroupState.Ticket) => (failure: KafkaFailure): Refused => {
      const isAside = request === "DescribeGroups" || (request === "Heartbeat" && ticket.counted < 0)
      if (!isAside || failure.isUnreachable) lastFailure = failure
      // Whoever answers that something else has to happen first is there, and it goes on.
      const isAnswer = !failure.isUnreachable && !failure.isOurs
      if (isAnswer && (request !== "Heartbeat" || isJoining())) progressAt = now()
      return new Refused(failure, dispatch({ _tag: "Refused", request, type: failure.type, ticket }))
    }

    const isJoining = () => state.phase._tag === "Joining" || state.phase._tag === "Syncing"

    const ask = <A>(
      request: GroupState.Request,
      of: (node: number) => Effect.Effect<A, KafkaFailure>
    ): Effect.Effect<A, Refused> =>
      Effect.suspend(() => {
        const ticket = GroupState.ticket(state, now())
        return Effect.mapError(Effect.flatMap(coordinator, of), refuse(request, ticket))
      })

    const failureOf = <A>(asked: Effect.Effect<A, Refused>) => Effect.mapError(asked, ({ failure }) => failure)

    /** What an answer to something beside joining and heartbeats means for the member. */
    const obey = ({ failure, next }: Refused): Effect.Effect<void> =>
      next === "lose"
        ? Effect.asVoid(Effect.fork(options.lost(failure.type, 0)))
        : next === "fail"
        ? Effect.asVoid(fail(failure))
        : Effect.void

    // ---- joining ----

    const join: Effect.Effect<{ readonly leads: boolean; readonly members: ReadonlyArray<Member> }, Refused> = ask(
      "JoinGroup",
      (node) =>
        driver.join(node, {
          memberId: state.memberId,
          sessionTimeoutMs: settings.sessionTimeout,
          rebalanceTimeoutMs: settings.rebalanceTimeout,
          protocol: GroupProtocol.PROTOCOL,
          metadata: GroupProtocol.encodeMember({
            topics: [options.topic],
            generation: state.generation,
            owned: new Map([[options.topic, options.owned()]]),
            isNew
          }, state.round)
        }, joinWithin)
    ).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          progressAt = now()
        })
      ),
      Effect.flatMap((answer) => {
        dispatch(answer)
        return answer._tag === "Named" ? join : Effect.succeed({
          leads: answer.leaderId === answer.memberId,
          members: answer.members.map(({ memberId, metadata }) => GroupProtocol.decodeMember(memberId, metadata))
        })
      })
    )

    const sync = Effect.fnUntraced(function*(plan: Assignments, generation: number, isNewToAll: boolean) {
      const sentAt = now()
      const assignment = yield* ask("SyncGroup", (node) =>
        driver.sync(node, {
          memberId: state.memberId,
          generation,
          assignments: GroupProtocol.encodeAssignments(plan, isNewToAll)
        }, joinWithin))
      dispatch({ _tag: "Synced", generation, sentAt })
      progressAt = now()
      lasting.worked("group")
      const decoded = GroupProtocol.decodeAssignment(assignment, options.topic)
      isNew = decoded.isNew
      return decoded.partitions
    })

    const nothing: Assignments = new Map()

    /** Joins, and applies the assignment; again at once where that let go of something that others wait for. */
    const cycle = Effect.gen(function*() {
      // The leader would give at once what is not owned any more, and still handled.
      yield* options.ended
      if (state.phase._tag === "Broken" || state.phase._tag === "Left") return yield* Effect.never
      dispatch({ _tag: "Joining" })
      const { leads, members } = yield* join
      const { counted } = state
      const ticket = GroupState.ticket(state, now())
      const plan = leads && members.length > 0
        ? yield* Effect.mapError(options.plan(members), refuse("Plan", ticket))
        : nothing
      // Also where this is as far as it comes: others may join before the partitions are shared out.
      if (counted === FIRST_GENERATION) isNew = true
      const isNewToAll = isNew || members.some(({ isNew }) => isNew)
      const partitions = yield* sync(plan, counted, isNewToAll)
      // The next one is made when it is needed: links that rest cost brokers and us.
      yield* driver.abandonJoin
      yield* Effect.logDebug("Joined the group").pipe(
        Effect.annotateLogs({ generation: counted, partitions: partitions.join(",") })
      )
      const letGo = yield* begin(partitions, counted)
      if (letGo) return
      if (!state.wantsJoin) {
        dispatch({ _tag: "Stands" })
        yield* Deferred.succeed(standing, undefined)
      }
      while (!state.wantsJoin) yield* wake.wait
    })

    /** Until it is done, or a new assignment makes it useless. */
    const begin = Effect.fnUntraced(function*(partitions: ReadonlyArray<number>, generation: number) {
      for (let failures = 0;; failures++) {
        const ticket = GroupState.ticket(state, now())
        const result = yield* Effect.either(options.apply(partitions, generation))
        if (Either.isRight(result)) return result.right
        const refused = refuse("Begin", ticket)(result.left)
        if (refused.next === "fail") return yield* Effect.fail(refused)
        if (state.wantsJoin) return true
        yield* Effect.sleep(backoff(failures))
      }
    })

    const backoff = (failures: number): number =>
      Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** Math.min(failures, 8)) * (0.8 + 0.4 * Math.random())

    /** It is over: whoever subscribes hears of it, or whoever asks how the subscription is. */
    const fail = (failure: KafkaFailure) =>
      Deferred.fail(standing, failure).pipe(
        Effect.flatMap((isNews) => isNews ? Effect.void : Deferred.fail(broken, failure)),
        Effect.zipRight(options.lost(failure.type, 0))
      )

    const member: Effect.Effect<never> = Effect.suspend(() => {
      let failures = 0
      return Effect.matchEffect(cycle, {
        onSuccess: () =>
          Effect.sync(() => {
            failures = 0
          }),
        onFailure: ({ failure, next }) => {
          const wait = Effect.suspend(() => Effect.sleep(backoff(failures++)))
          switch (next) {
            case "fail":
              return Effect.zipRight(fail(failure), Effect.never)
            case "lose":
              return Effect.zipRight(options.lost(failure.type, 0), failures++ > 0 ? wait : Effect.void)
            case "rejoin":
              return failures++ > 0 ? wait : Effect.void
            default:
              if (state.stood) lasting.failed("group", meaningOf(failure), failure)
              return failure.isOurs || GroupState.outcomeOf(failure.type) === "refused"
                ? Effect.sleep(REFUSED_BACKOFF_MS)
                : wait
          }
        }
      }).pipe(Effect.forever)
    }).pipe(
      Effect.tapErrorCause((cause) => Effect.logWarning("The consumer broke down and is started again", cause)),
      Effect.sandbox,
      Effect.retry(restart),
      Effect.orDie
    )

    // ---- staying ----

    const beat: Effect.Effect<number> = Effect.suspend(() => {
      const { counted, memberId } = state
      // Before the first assignment it asks whether the coordinator is there, which says that it does not know the generation.
      if (counted < 0 && state.phase._tag !== "Joining") return Effect.succeed(settings.heartbeatInterval)
      const ticket = GroupState.ticket(state, now())
      return ask("Heartbeat", (node) => driver.heartbeat(node, { memberId, generation: counted }, beatWithin)).pipe(
        Effect.matchEffect({
          onSuccess: () =>
            Effect.sync(() => {
              dispatch({ _tag: "Beaten", ticket })
              if (isJoining()) progressAt = now()
              lasting.worked("heartbeat")
              return settings.heartbeatInterval
            }),
          onFailure: (refused) => afterBeat(refused, counted)
        })
      )
    })

    const afterBeat = ({ failure, next }: Refused, counted: number): Effect.Effect<number> => {
      const { isUnreachable } = failure
      const isProbe = counted < 0
      if (next === "retry" && !isProbe) lasting.failed("heartbeat", meaningOf(failure), failure)
      const then = next === "lose"
        ? options.lost(failure.type, 0)
        : next === "fail"
        ? fail(failure)
        // A join waits long for its answer, and would not notice that its broker is gone.
        : isJoining() && isUnreachable
        ? driver.abandonJoin
        : Effect.void
      return Effect.logDebug("A heartbeat failed", failure).pipe(
        Effect.when(() => !isProbe),
        Effect.zipRight(then),
        Effect.as(
          next === "retry" && !isProbe ? Math.min(BACKOFF_MS, settings.heartbeatInterval) : settings.heartbeatInterval
        )
      )
    }

    const isSilent = () => now() - state.contact > options.fenceAfterMs

    const heartbeats = Effect.suspend(() => {
      let pause = settings.heartbeatInterval
      return Effect.forever(Effect.zipRight(
        Effect.suspend(() => Effect.sleep(pause)),
        Effect.map(beat, (next) => {
          pause = next
        })
      ))
    })

    /** Also when the process itself was asleep: the clock says so. */
    const fence = Effect.forever(
      Effect.suspend(() => {
        const left = state.contact + options.fenceAfterMs - now()
        return Effect.sleep(left < 0 ? FENCE_TICK_MS : Math.min(REST_TICK_MS, left + 1))
      }).pipe(
        Effect.zipRight(Effect.suspend(() => {
          if (options.owned().length === 0 || !(isSilent() || options.isRefusing())) return Effect.void
          dispatch({ _tag: "Silent" })
          const left = Math.max(0, state.contact + settings.sessionTimeout - now())
          // Beside it, which has to look after what is begun meanwhile.
          return Effect.fork(options.lost("no heartbeat was answered for too long", left))
        }))
      )
    )

    const commit: Membership["commit"] = (commits) =>
      Effect.suspend(() => {
        const ticket = GroupState.ticket(state, now())
        const { generation, memberId } = state
        return ask("OffsetCommit", (node) => driver.commit(node, { memberId, generation }, options.topic, commits))
          .pipe(
            Effect.tapError(obey),
            failureOf,
            Effect.tap((codes) => {
              const code = [...codes.values()].find((code) => code !== 0)
              if (code === undefined) return Effect.void
              const cause = `OffsetCommit was answered with error ${code}`
              return obey(
                refuse("OffsetCommit", ticket)(new KafkaFailure({ type: errorType(code), sent: true, cause }))
              )
            })
          )
      })

    const leave = Effect.suspend(() => {
      const { coordinator, memberId } = state
      dispatch({ _tag: "Leaving" })
      return memberId === "" || options.isStatic || coordinator === undefined
        ? Effect.void
        : driver.leave(coordinator, memberId)
    })

    return {
      standing,
      broken,
      run: Effect.all([member, heartbeats, fence], { concurrency: "unbounded", discard: true }).pipe(
        Effect.zipRight(Effect.never)
      ),
      commit,
      committed: (partitions) =>
        ask("OffsetFetch", (node) => driver.committed(node, options.topic, partitions)).pipe(
          Effect.tapError(obey),
          failureOf
        ),
      generation: () => state.phase._tag === "Member" && !isSilent() ? state.generation : -1,
      isNew: () => isNew,
      isAlive: () => !isSilent(),
      rejoin: () => void dispatch({ _tag: "Wanted" }),
      renew: Effect.zipRight(driver.abandonJoin, Effect.sync(() => void dispatch({ _tag: "Wanted" }))),
      leave,
      phase: () => state.phase._tag,
      progressAt: () => progressAt,
      lastFailure: () => lastFailure,
      describe: failureOf(ask("DescribeGroups", (node) => driver.describe(node, beatWithin)))
    }
  })

const meaningOf = (failure: KafkaFailure): string =>
  failure.isUnreachable
    ? "The coordinator of the group does not answer; if that goes on for too long, the partitions are given to other members"
    : `The coordinator of the group refuses the member (${failure.type}); if that goes on for too long, the partitions are given to other members`
