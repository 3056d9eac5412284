/** A group of one member before a broker that the test plays: what is committed, what the log has, and which commits are refused. */
import { Effect } from "effect"
import type { Client } from "../src/internal/Client.js"
import { Closing } from "../src/internal/Closing.js"
import type { KafkaFailure } from "../src/internal/Failure.js"
import { disconnected } from "../src/internal/Failure.js"
import type { JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest } from "../src/internal/groupApis.js"
import type { FetchRequest, ListOffsetsRequest } from "../src/internal/logApis.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaConsumer from "../src/KafkaConsumer.js"
import { batch, fetched, response, topicsOf } from "./fakeLog.js"

const OFFSET_OUT_OF_RANGE = 1

export const makeGroup = (
  committed: { readonly offset: number; readonly metadata: string },
  options: Partial<KafkaConfig.Options> = {}
) => {
  const state = {
    committed,
    /** The values of the log, from offset 0 on. */
    log: [] as ReadonlyArray<string>,
    /** The code with which a commit is answered; 0 is good. */
    code: (_: OffsetCommitRequest): number => 0,
    /** So many of the next commits lose their connection before they are answered. */
    lost: 0,
    commits: 0,
    joins: 0,
    /** Up to where the log is what it was, where the leader knows that. */
    cutAt: undefined as number | undefined,
    /** The partition's leader resets its connections; the coordinator does not. */
    isLeaderAway: false
  }
  const answers: { readonly [Name in ApiName]?: (request: RequestOf<Name>) => Effect.Effect<object, KafkaFailure> } = {
    JoinGroup: ({ metadata }: JoinGroupRequest) =>
      Effect.sync(() => ({
        errorCode: 0,
        generation: ++state.joins,
        leaderId: "m",
        memberId: "m",
        members: [{ memberId: "m", metadata }]
      })),
    SyncGroup: ({ assignments }: SyncGroupRequest) =>
      Effect.succeed({ errorCode: 0, assignment: assignments[0]!.assignment }),
    Heartbeat: () => Effect.succeed({ errorCode: 0 }),
    LeaveGroup: () => Effect.succeed({ errorCode: 0 }),
    OffsetFetch: () =>
      Effect.sync(() => ({ errorCode: 0, partitions: [{ partition: 0, errorCode: 0, ...state.committed }] })),
    OffsetCommit: (request: OffsetCommitRequest) =>
      Effect.suspend(() => {
        state.commits++
        if (state.lost > 0) {
          state.lost--
          return Effect.fail(disconnected("it was ended", true))
        }
        const errorCode = state.code(request)
        const [commit] = request.partitions
        if (errorCode === 0) state.committed = { offset: commit!.offset, metadata: commit!.metadata }
        return Effect.succeed({ partitions: [{ partition: 0, errorCode }] })
      }),
    ListOffsets: ({ partitions }: ListOffsetsRequest) =>
      Effect.suspend(() =>
        state.isLeaderAway
          ? Effect.fail(disconnected("it was reset", false))
          : Effect.succeed({
            partitions: partitions.map(({ partition, timestamp }) => ({
              partition,
              errorCode: 0,
              offset: timestamp === -1 ? state.log.length : 0
            }))
          })
      ),
    OffsetForLeaderEpoch: () =>
      Effect.sync(() => ({
        partitions: [{
          partition: 0,
          errorCode: 0,
          leaderEpoch: state.cutAt === undefined ? -1 : 0,
          endOffset: state.cutAt ?? -1
        }]
      })),
    Fetch: ({ maxWaitTime, topics }: FetchRequest) =>
      Effect.promise(async () => {
        const from = topics[0]?.partitions[0]?.fetchOffset ?? 0
        const values = state.log.slice(from)
        const end = state.log.length
        return from > end
          ? response([fetched(0, { errorCode: OFFSET_OUT_OF_RANGE })], { sessionId: 0 })
          : values.length === 0
          ? response([fetched(0, { highWatermark: end })], { sessionId: 0 })
          : response([fetched(0, { highWatermark: end, records: await batch(from, values) })], { sessionId: 0 })
      }).pipe(Effect.tap(({ partitions }) =>
        partitions.some(({ records }) => records.length > 0) ? Effect.void : Effect.sleep(Math.min(20, maxWaitTime))
      ))
  }
  const client: Client = {
    addresses: ["none:1"],
    connect: () => Effect.void,
    metadata: () => Effect.never,
    coordinator: () => Effect.succeed(1),
    release: () => Effect.void,
    isConnected: () => true,
    isOpen: () => true,
    call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) =>
      (answers[name]?.(request) ?? Effect.dieMessage(`nobody asks for ${name}`)) as Effect.Effect<
        ResponseOf<Name>,
        KafkaFailure
      >
  }
  const consumer = Effect.gen(function*() {
    const settings = yield* KafkaConfig.resolve({ brokers: ["none:1"], commitInterval: "20 millis", ...options })
    const known = () => ({ name: "orders", id: undefined, leaders: [1], epochs: [state.cutAt === undefined ? -1 : 0] })
    return yield* KafkaConsumer.make(client, topicsOf(known), settings, new Closing(() => performance.now(), 1_000))
  })
  return { state, consumer }
}
