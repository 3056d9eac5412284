/**
 * What the leader of a group plans with: how many partitions each topic has that
 * a member subscribes to. In a group that all topics share these are topics, too,
 * that this process has nothing to do with.
 */
import * as Effect from "effect/Effect"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Assignments, Member } from "./Assignor.js"
import * as Assignor from "./Assignor.js"
import type { KafkaFailure } from "./Failure.js"

export interface GroupPlan {
  readonly assign: (members: ReadonlyArray<Member>) => Effect.Effect<Assignments, KafkaFailure>
  /** The group has this generation; only the leader of it has planned it. */
  readonly applied: (generation: number) => void
  /** Looks at the topics again after a while, and answers whether the plan is out of date. */
  readonly isOutdated: Effect.Effect<boolean>
}

export interface GroupPlanOptions {
  readonly topics: KafkaTopics
  /** The topic of this member. */
  readonly topic: string
  readonly isShared: boolean
  readonly intervalMs: number
}

/** How soon a topic is looked for again that members subscribe to and nobody finds. */
const MISSING_MS = 1_000

export const make = ({ intervalMs, isShared, topic, topics }: GroupPlanOptions): GroupPlan => {
  /** By topic; only the leader has planned, and only it needs to know. */
  let planned: ReadonlyMap<string, number> = new Map()
  let next: ReadonlyMap<string, number> = new Map()
  let current = -1

  const count = (name: string, members: ReadonlyArray<Member>): Effect.Effect<number, KafkaFailure> =>
    topics.refresh(name).pipe(
      Effect.map(({ leaders }) => leaders.length),
      // One topic that is gone, or that this user may not see, must not stop the others: what is assigned of it stays.
      Effect.catchIf((error) => isShared && !error.isUnreachable, (error) => {
        const owned = members.flatMap((member) => member.owned.get(name) ?? [])
        return Effect.as(
          Effect.logWarning(
            "A topic of the group can't be looked up; its partitions stay where they are",
            error.message
          )
            .pipe(Effect.annotateLogs({ topic: name })),
          Math.max(0, ...owned.map((partition) => partition + 1))
        )
      })
    )

  /** In steps: a plan that is made meanwhile may miss a topic. */
  const pause = Effect.gen(function*() {
    const step = isShared ? MISSING_MS : intervalMs
    for (let left = intervalMs; left > 0; left -= step) {
      yield* Effect.sleep(Math.min(step, left))
      if (Array.from(planned.values()).includes(0)) return
    }
  })

  return {
    assign: (members) =>
      Effect.gen(function*() {
        const counts = new Map<string, number>()
        for (const name of new Set(members.flatMap(({ topics }) => topics))) {
          counts.set(name, yield* count(name, members))
        }
        next = counts
        return Assignor.assign(members, counts)
      }),
    applied: (generation) => {
      if (generation === current) return
      current = generation
      planned = next
      next = new Map()
    },
    isOutdated: pause.pipe(
      Effect.zipRight(
        Effect.suspend(() =>
          Effect.forEach(new Set([topic, ...planned.keys()]), (name) =>
            topics.refresh(name).pipe(
              Effect.map(({ leaders }) => leaders.length !== (planned.get(name) ?? leaders.length)),
              Effect.catchAll((error) =>
                Effect.logDebug("Whether the topic has new partitions can't be asked", error.message).pipe(
                  Effect.annotateLogs({ topic: name }),
                  Effect.as(false)
                )
              )
            ))
        )
      ),
      Effect.map((changed) => changed.includes(true))
    )
  }
}
