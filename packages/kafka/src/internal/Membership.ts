/**
 * The membership of one consumer in its group: joining, heartbeats, rejoining,
 * leaving. It asks the coordinator, and does what `GroupState` makes of the answers.
 * Heartbeats have a link of their own and don't stop, whatever handlers, lanes,
 * drains and joins are doing.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import type { Assignments, Member } from "./Assignor.js"
import { rest } from "./backoff.js"
import * as Coordinator from "./Coordinator.js"
import { Refused } from "./Coordinator.js"
import * as ErrorCode from "./ErrorCode.js"
import { KafkaFailure } from "./Failure.js"
import type { CommitRequest, CommittedOffset, Description } from "./GroupDriver.js"
import * as GroupProtocol from "./groupProtocol.js"
import * as GroupState from "./GroupState.js"
import * as Heartbeats from "./Heartbeats.js"
import { meaningOf } from "./Heartbeats.js"
import { monotonic } from "./monotonic.js"
import { Signal } from "./Signal.js"

export interface MembershipOptions extends Heartbeats.Staying {
  readonly topic: string
  /** The group keeps the member's place when the member ends, for the next process with its instance id. */
  readonly isStatic: boolean
  /** Who gets what; asked of the leader only. */
  readonly plan: (members: ReadonlyArray<Member>) => Effect.Effect<Assignments, KafkaFailure>
  /** Lets go of what it doesn't have any more, and begins with what is new; `true` when it let go of something. */
  readonly apply: (partitions: ReadonlyArray<number>, generation: number) => Effect.Effect<boolean, KafkaFailure>
  /** Waits until what was lost has ended here, as long as the session may last: no other can have it before. */
  readonly ended: Effect.Effect<void>
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
/** Until it is proven that what it has is nobody else's, for so long at most, the member goes on with it. */
const PROOF_MS = 1_000
/** What somebody has to change is not asked for more often. */
const REFUSED_BACKOFF_MS = 5_000

/** A loop that broke for a reason nobody foresaw is started again so. */
const restart = Schedule.exponential("2 seconds").pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered,
  Schedule.resetAfter("1 minute")
)

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
    let isNew = false
    const coordinator = Coordinator.make({ driver, now, findWithinMs: beatWithin, onWanted: wake.notify })
    const { ask, dispatch, refuse, state } = coordinator

    const failureOf = <A>(asked: Effect.Effect<A, Refused>) => Effect.mapError(asked, ({ failure }) => failure)

    /** What an answer to something beside joining and heartbeats means for the member. */
    const obey = ({ failure, next }: Refused): Effect.Effect<void> =>
      next === "lose"
        ? Effect.asVoid(Effect.fork(options.lost(failure.type, 0)))
        : next === "fail"
        ? Effect.asVoid(fail(failure))
        : Effect.void

    // ---- joining ----

    /** Said as of the moment when nothing that was lost runs here any more: what is lost while it looks for the coordinator may run. */
    const metadataOf = (): Buffer =>
      GroupProtocol.encodeMember({
        topics: [options.topic],
        generation: state().generation,
        owned: new Map([[options.topic, options.owned()]]),
        isNew
      }, state().round)

    const join = (
      metadata: Buffer
    ): Effect.Effect<{ readonly leads: boolean; readonly members: ReadonlyArray<Member> }, Refused> =>
      ask(
        "JoinGroup",
        (node) =>
          driver.join(node, {
            memberId: state().memberId,
            sessionTimeoutMs: settings.sessionTimeout,
            rebalanceTimeoutMs: settings.rebalanceTimeout,
            protocol: GroupProtocol.PROTOCOL,
            metadata
          }, joinWithin)
      ).pipe(
        Effect.tap(() => Effect.sync(coordinator.progressed)),
        Effect.flatMap((answer) => {
          dispatch(answer)
          return answer._tag === "Named" ? join(metadata) : Effect.succeed({
            leads: answer.leaderId === answer.memberId,
            members: answer.members.map(({ memberId, metadata }) => GroupProtocol.decodeMember(memberId, metadata))
          })
        })
      )

    const sync = Effect.fnUntraced(function*(plan: Assignments, generation: number, isNewToAll: boolean) {
      const sentAt = now()
      const assignment = yield* ask("SyncGroup", (node) =>
        driver.sync(node, {
          memberId: state().memberId,
          generation,
          assignments: GroupProtocol.encodeAssignments(plan, isNewToAll)
        }, joinWithin))
      dispatch({ _tag: "Synced", generation, sentAt })
      coordinator.progressed()
      lasting.worked("group")
      const decoded = GroupProtocol.decodeAssignment(assignment, options.topic)
      isNew = decoded.isNew
      return decoded.partitions
    })

    /**
     * Whether the group is in the generation of the last assignment: then nobody else was given what it has. Where that is
     * not said at once, it is lost. It answers why the group is to be joined again.
     */
    const proof = (refused: Refused): Effect.Effect<Refused> =>
      Effect.suspend(() => {
        const { generation, memberId } = state()
        const ticket = coordinator.ticket("Proof")
        return ask("Proof", (node) => driver.heartbeat(node, { memberId, generation }, Math.min(beatWithin, PROOF_MS)))
          .pipe(
            Effect.match({
              onSuccess: () => new Refused(refused.failure, dispatch({ _tag: "Proven", ticket })),
              onFailure: ({ next }) => new Refused(refused.failure, next)
            })
          )
      })

    const nothing: Assignments = new Map()

    /** Joins, and applies the assignment; again at once where that let go of something that others wait for. */
    const cycle = Effect.gen(function*() {
      // The leader would give at once what is not owned any more, and still handled.
      yield* options.ended
      if (state().phase._tag === "Broken" || state().phase._tag === "Left") return yield* Effect.never
      dispatch({ _tag: "Joining" })
      const { leads, members } = yield* join(metadataOf())
      const { counted } = state()
      const ticket = coordinator.ticket("Plan")
      const plan = leads && members.length > 0
        ? yield* Effect.mapError(options.plan(members), refuse("Plan", ticket))
        : nothing
      // Also where this is as far as it comes: others may join before the partitions are shared out.
      if (counted === FIRST_GENERATION) isNew = true
      const isNewToAll = isNew || members.some(({ isNew }) => isNew)
      const partitions = yield* Effect.catchIf(
        sync(plan, counted, isNewToAll),
        ({ next }) => next === "prove",
        (refused) => Effect.flatMap(proof(refused), Effect.fail)
      )
      // The next one is made when it is needed: links that rest cost brokers and us.
      yield* driver.abandonJoin
      const letGo = yield* begin(partitions, counted)
      if (letGo) return
      if (!state().wantsJoin) {
        dispatch({ _tag: "Stands" })
        const isFirst = yield* Deferred.succeed(standing, undefined)
        yield* (isFirst ? Effect.logInfo("Joined the group") : Effect.logDebug("Joined the group again")).pipe(
          Effect.annotateLogs({ generation: counted, partitions: partitions.join(",") })
        )
      }
      while (!state().wantsJoin) yield* wake.wait
    })

    /** Until it is done, or a new assignment makes it useless. */
    const begin = Effect.fnUntraced(function*(partitions: ReadonlyArray<number>, generation: number) {
      for (let failures = 1;; failures++) {
        const ticket = coordinator.ticket("Begin")
        const result = yield* Effect.either(options.apply(partitions, generation))
        if (Either.isRight(result)) return result.right
        const refused = refuse("Begin", ticket)(result.left)
        if (refused.next === "fail") return yield* Effect.fail(refused)
        if (state().wantsJoin) return true
        yield* rest(failures)
      }
    })

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
          const wait = Effect.suspend(() => rest(++failures))
          switch (next) {
            case "fail":
              return Effect.zipRight(fail(failure), Effect.never)
            case "lose":
              return Effect.zipRight(options.lost(failure.type, 0), failures++ > 0 ? wait : Effect.void)
            case "rejoin":
              return failures++ > 0 ? wait : Effect.void
            default:
              if (state().stood) lasting.failed("group", meaningOf(failure), failure)
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

    const heartbeats = Heartbeats.make({ ...options, coordinator, now, withinMs: beatWithin, fail })

    const commit: Membership["commit"] = (commits) =>
      Effect.suspend(() => {
        const ticket = coordinator.ticket("OffsetCommit")
        const { generation, memberId } = state()
        return ask("OffsetCommit", (node) => driver.commit(node, { memberId, generation }, options.topic, commits))
          .pipe(
            Effect.tapError(obey),
            failureOf,
            Effect.tap((codes) => {
              const code = [...codes.values()].find((code) => code !== 0)
              if (code === undefined) return Effect.void
              const cause = `OffsetCommit was answered with error ${code}`
              return obey(
                refuse("OffsetCommit", ticket)(new KafkaFailure({ type: ErrorCode.nameOf(code), sent: true, cause }))
              )
            })
          )
      })

    const leave = Effect.suspend(() => {
      const { coordinator: node, memberId } = state()
      dispatch({ _tag: "Leaving" })
      return memberId === "" || options.isStatic || node === undefined
        ? Effect.void
        : driver.leave(node, memberId)
    })

    return {
      standing,
      broken,
      run: Effect.all([member, heartbeats.run], { concurrency: "unbounded", discard: true }).pipe(
        Effect.zipRight(Effect.never)
      ),
      commit,
      committed: (partitions) =>
        ask("OffsetFetch", (node) => driver.committed(node, options.topic, partitions)).pipe(
          Effect.tapError(obey),
          failureOf
        ),
      generation: () => state().phase._tag === "Member" && !heartbeats.isSilent() ? state().generation : -1,
      isNew: () => isNew,
      isAlive: () => !heartbeats.isSilent(),
      rejoin: () => void dispatch({ _tag: "Wanted" }),
      renew: Effect.zipRight(driver.abandonJoin, Effect.sync(() => void dispatch({ _tag: "Wanted" }))),
      leave,
      phase: () => state().phase._tag,
      progressAt: coordinator.progressAt,
      lastFailure: coordinator.lastFailure,
      describe: failureOf(ask("DescribeGroups", (node) => driver.describe(node, beatWithin)))
    }
  })
