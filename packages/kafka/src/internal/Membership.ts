/**
 * The membership of one consumer in its group: joining, heartbeats, rejoining,
 * leaving. Heartbeats have a connection of their own and don't stop, whatever
 * handlers, lanes, drains and joins are doing.
 *
 * kafkajs's own group loop is not used: it sends heartbeats only between fetches,
 * joins again without waiting for anybody, and forgets what it owned.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Settings } from "../KafkaConfig.js"
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { Assignments, Member } from "./Assignor.js"
import type { Client, KafkaFailure } from "./Client.js"
import { failure, reconnect } from "./Client.js"
import type { CommitRequest, Send } from "./Committer.js"
import * as GroupProtocol from "./groupProtocol.js"
import { monotonic } from "./monotonic.js"
import { Signal } from "./Signal.js"
import type { Api } from "./Wire.js"
import { errorType } from "./Wire.js"

export interface MembershipOptions {
  readonly client: Client
  readonly settings: Settings
  readonly group: string
  readonly topic: string
  /** Tells the connections of this member from those of others. */
  readonly id: string
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
  readonly run: Effect.Effect<never>
  readonly commit: Send
  /**
   * In which it is a member, as far as it knows. −1 while it may have lost its partitions to others, and while it
   * joins: it has told the leader what it owns, and whatever it began now would be given to another.
   */
  readonly generation: () => number
  /** Whether the group certainly has not given its partitions to others yet. */
  readonly isAlive: () => boolean
  /** Asks the coordinator, as a member: for the offsets of its group. */
  readonly ask: <A>(api: Api, payload: object) => Effect.Effect<A, KafkaFailure>
  /** Joins again, for the group to be balanced anew. */
  readonly rejoin: () => void
  /** Joins again over another connection, because the one before may be as silent as the one that was found to be. */
  readonly renew: Effect.Effect<void>
  readonly leave: Effect.Effect<void>
  readonly lastFailure: () => KafkaFailure | undefined
}

interface Joined {
  readonly errorCode: number
  readonly generationId: number
  readonly leaderId: string
  readonly memberId: string
  readonly members: ReadonlyArray<{ readonly memberId: string; readonly memberMetadata: Buffer }>
}

/** How often it is looked at at least whether the session is about to end; when it is due, at once. */
const FENCE_TICK_MS = 250
/** Errors after which the coordinator has to be asked for again. */
const notCoordinator = new Set(["NOT_COORDINATOR_FOR_GROUP", "GROUP_COORDINATOR_NOT_AVAILABLE"])
const kickedOut = new Set(["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_INSTANCE_ID"])

/** A loop that broke for a reason nobody foresaw is started again so. */
const restart = Schedule.exponential("2 seconds").pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered,
  Schedule.resetAfter("1 minute")
)

export const make = (options: MembershipOptions): Effect.Effect<Membership> =>
  Effect.gen(function*() {
    const { client, group, settings } = options
    const joinRole = `join-${options.id}`
    const clock = yield* Effect.clock
    const standing = yield* Deferred.make<void, KafkaFailure>()
    const wake = new Signal()
    const state = {
      memberId: "",
      generation: -1,
      /** Of the last join that was answered: what heartbeats say. −1 while the group does not count on us. */
      joined: -1,
      coordinator: undefined as number | undefined,
      /** When the coordinator is known to have heard of us, in milliseconds of a clock that nobody sets. */
      contact: 0,
      isMember: false,
      isJoining: false,
      joins: 0,
      needsJoin: false,
      lastFailure: undefined as KafkaFailure | undefined
    }
    const now = monotonic(clock)

    const coordinator = Effect.suspend(() =>
      state.coordinator !== undefined
        ? Effect.succeed(state.coordinator)
        : Effect.tap(client.coordinator(group), (node) =>
          Effect.sync(() => {
            state.coordinator = node
          }))
    )

    const noted = (error: KafkaFailure) =>
      Effect.sync(() => {
        state.lastFailure = error
        if (error.isUnreachable || notCoordinator.has(error.type)) state.coordinator = undefined
      })

    const ask = <A>(role: string, api: Api, payload: object, timeoutMs?: number): Effect.Effect<A, KafkaFailure> =>
      Effect.flatMap(coordinator, (node) => client.call<A>(node, role, api, payload, timeoutMs)).pipe(
        Effect.tapError(noted)
      )

    const accepted = <A extends { readonly errorCode: number }>(api: Api) => (answer: A) =>
      answer.errorCode === 0
        ? Effect.succeed(answer)
        : Effect.tapError(Effect.fail(failure(api, answer.errorCode)), noted)

    const rejoin = (): void => {
      state.needsJoin = true
      wake.notify()
    }

    const join: Effect.Effect<Joined, KafkaFailure> = Effect.suspend(() =>
      ask<Joined>(joinRole, "JoinGroup", {
        groupId: group,
        sessionTimeout: settings.sessionTimeout,
        rebalanceTimeout: settings.rebalanceTimeout,
        memberId: state.memberId,
        protocolType: "consumer",
        groupProtocols: [{
          name: GroupProtocol.PROTOCOL,
          metadata: GroupProtocol.encodeMember({
            topics: [options.topic],
            generation: state.generation,
            owned: new Map([[options.topic, options.owned()]])
          }, state.joins)
        }]
      }, settings.rebalanceTimeout + settings.requestTimeout)
    ).pipe(
      Effect.flatMap((joined) => {
        if (errorType(joined.errorCode) !== "MEMBER_ID_REQUIRED") return accepted<Joined>("JoinGroup")(joined)
        state.memberId = joined.memberId
        return join
      })
    )

    const sync = Effect.fnUntraced(function*(joined: Joined) {
      const plan: Assignments = joined.leaderId === joined.memberId
        ? yield* options.plan(
          joined.members.map(({ memberId, memberMetadata }) => GroupProtocol.decodeMember(memberId, memberMetadata))
        )
        : new Map()
      // The answer may have been long under way, and the session runs since it was given.
      const sentAt = now()
      const answer = yield* ask<{ readonly errorCode: number; readonly memberAssignment: Buffer }>(
        joinRole,
        "SyncGroup",
        {
          groupId: group,
          generationId: joined.generationId,
          memberId: joined.memberId,
          groupAssignment: GroupProtocol.encodeAssignments(plan)
        },
        settings.rebalanceTimeout + settings.requestTimeout
      ).pipe(Effect.flatMap(accepted("SyncGroup")))
      state.contact = Math.max(state.contact, sentAt)
      return GroupProtocol.decodeAssignment(answer.memberAssignment, options.topic)
    })

    /** Joins, and applies the assignment; again at once where that let go of something that others wait for. */
    const cycle = Effect.gen(function*() {
      // The leader would give at once what is not owned any more, and still handled.
      yield* options.ended
      state.needsJoin = false
      state.isJoining = true
      state.joins++
      const joined = yield* join
      const { generationId, memberId } = joined
      state.memberId = memberId
      // The leader may take its time: the group has this generation already, and no other heartbeat counts.
      state.joined = generationId
      const partitions = yield* sync(joined)
      state.generation = generationId
      // The group may have been lost meanwhile.
      state.joined = generationId
      state.isMember = true
      state.isJoining = false
      yield* Effect.logDebug("Joined the group").pipe(
        Effect.annotateLogs({ generation: generationId, partitions: partitions.join(",") })
      )
      const letGo = yield* options.apply(partitions, generationId).pipe(
        Effect.tapError(noted),
        Effect.retry({ schedule: reconnect, while: () => !state.needsJoin })
      )
      if (letGo) return
      yield* Deferred.succeed(standing, undefined)
      while (!state.needsJoin) yield* wake.wait
    })

    const lose = (why: string, leftMs: number) =>
      Effect.suspend(() => {
        state.isMember = false
        state.joined = -1
        return Effect.zipRight(options.lost(why, leftMs), Effect.sync(rejoin))
      })

    const recover = (error: KafkaFailure): Effect.Effect<void, KafkaFailure> => {
      if (error.type === "REBALANCE_IN_PROGRESS") return Effect.void
      if (kickedOut.has(error.type)) {
        if (error.type !== "ILLEGAL_GENERATION") state.memberId = ""
        return lose(error.type, 0)
      }
      if (toInvalidConfiguration(error) === undefined) return Effect.fail(error)
      // Whoever subscribes hears of it, and ends this.
      return Effect.flatMap(
        Deferred.fail(standing, error),
        (isNews) => isNews ? Effect.never : Effect.fail(error)
      )
    }

    const isTransient = (error: KafkaFailure) => !error.isOurs && toInvalidConfiguration(error) === undefined

    const member: Effect.Effect<never> = Effect.forever(Effect.catchAll(cycle, recover)).pipe(
      Effect.retry({ schedule: Schedule.resetAfter(reconnect, "10 seconds"), while: isTransient }),
      Effect.tapErrorCause((cause) => Effect.logWarning("The consumer broke down and is started again", cause)),
      Effect.sandbox,
      Effect.retry(restart),
      Effect.orDie
    )

    const beat = Effect.gen(function*() {
      const { joined, joins } = state
      if (joined < 0) return
      const sentAt = now()
      const { errorCode } = yield* ask<{ readonly errorCode: number }>("control", "Heartbeat", {
        groupId: group,
        groupGenerationId: joined,
        memberId: state.memberId
      }, Math.max(1_000, settings.sessionTimeout / 3))
      const type = errorCode === 0 ? "" : errorType(errorCode)
      if (type === "" || type === "REBALANCE_IN_PROGRESS") state.contact = Math.max(state.contact, sentAt)
      // While it joins, the generation that was asked about may be over; also when the answer comes after the join.
      if (type === "" || joins !== state.joins || joined !== state.joined || state.isJoining) return
      if (type === "REBALANCE_IN_PROGRESS") return rejoin()
      if (notCoordinator.has(type)) state.coordinator = undefined
      if (!kickedOut.has(type)) return
      if (type !== "ILLEGAL_GENERATION") state.memberId = ""
      yield* lose(type, 0)
    }).pipe(
      Effect.catchAll((error) =>
        Effect.zipRight(
          Effect.logDebug("A heartbeat failed", error),
          // A join waits long for its answer, and would not notice that its broker is gone.
          state.isJoining && error.isUnreachable ? client.release(joinRole) : Effect.void
        )
      )
    )

    const isSilent = () => now() - state.contact > options.fenceAfterMs

    const heartbeats = Effect.forever(Effect.zipRight(Effect.sleep(settings.heartbeatInterval), beat))

    /** Also when the process itself was asleep: the clock says so. */
    const fence = Effect.forever(
      Effect.suspend(() => {
        const left = state.contact + options.fenceAfterMs - now()
        return Effect.sleep(left < 0 ? FENCE_TICK_MS : Math.min(FENCE_TICK_MS, left + 1))
      }).pipe(
        Effect.zipRight(Effect.suspend(() =>
          options.owned().length > 0 && (isSilent() || options.isRefusing())
            // Beside it, which has to look after what is begun meanwhile.
            ? Effect.fork(lose(
              "no heartbeat was answered for too long",
              Math.max(0, state.contact + settings.sessionTimeout - now())
            ))
            : Effect.void
        ))
      )
    )

    const commit: Send = (commits: ReadonlyArray<CommitRequest>) =>
      Effect.suspend(() =>
        ask<{ readonly responses: ReadonlyArray<CommitResponse> }>("control", "OffsetCommit", {
          groupId: group,
          groupGenerationId: state.generation,
          memberId: state.memberId,
          topics: [{ topic: options.topic, partitions: commits }]
        })
      ).pipe(
        Effect.map(({ responses }) =>
          new Map(responses.flatMap(({ partitions }) =>
            partitions.map(({ errorCode, partition }) => {
              if (notCoordinator.has(errorType(errorCode))) state.coordinator = undefined
              return [partition, errorCode] as const
            })
          ))
        )
      )

    const leave = Effect.suspend(() => {
      const { memberId } = state
      state.isMember = false
      state.joined = -1
      return memberId === "" ? Effect.void : ask("control", "LeaveGroup", { groupId: group, memberId })
    }).pipe(
      Effect.timeout(settings.closeTimeout),
      // The group finds out by itself when the session times out.
      Effect.catchAll((error) => Effect.logDebug("Leaving the group failed", error)),
      Effect.asVoid
    )

    return {
      standing,
      run: Effect.all([member, heartbeats, fence], { concurrency: "unbounded", discard: true }).pipe(
        Effect.zipRight(Effect.never)
      ),
      commit,
      generation: () => state.isMember && !state.isJoining && !isSilent() ? state.generation : -1,
      isAlive: () => !isSilent(),
      ask: (api, payload) => ask("control", api, payload),
      rejoin,
      renew: Effect.zipRight(client.release(joinRole), Effect.sync(rejoin)),
      leave,
      lastFailure: () => state.lastFailure
    }
  })

interface CommitResponse {
  readonly partitions: ReadonlyArray<{ readonly partition: number; readonly errorCode: number }>
}
