/**
 * All requests that this package makes of brokers. A driver carries their bytes, and
 * knows nothing of what they say.
 */
import type { Answer, Api } from "./Api.js"
import * as cluster from "./clusterApis.js"
import * as group from "./groupApis.js"
import * as log from "./logApis.js"

const table = {
  ApiVersions: cluster.apiVersions,
  CreatePartitions: cluster.createPartitions,
  CreateTopics: cluster.createTopics,
  DescribeConfigs: cluster.describeConfigs,
  DescribeGroups: group.describeGroups,
  Fetch: log.fetch,
  FindCoordinator: group.findCoordinator,
  Heartbeat: group.heartbeat,
  IncrementalAlterConfigs: cluster.incrementalAlterConfigs,
  InitProducerId: log.initProducerId,
  JoinGroup: group.joinGroup,
  LeaveGroup: group.leaveGroup,
  ListOffsets: log.listOffsets,
  Metadata: cluster.metadata,
  OffsetCommit: group.offsetCommit,
  OffsetFetch: group.offsetFetch,
  OffsetForLeaderEpoch: log.offsetForLeaderEpoch,
  Produce: log.produce,
  SyncGroup: group.syncGroup
} as const satisfies Readonly<Record<string, Api<never, Answer>>>

/** The names of the requests, as they stand in messages. */
export type ApiName = keyof typeof table

type Table = typeof table

export type RequestOf<Name extends ApiName> = Table[Name] extends Api<infer Request, infer _> ? Request : never

export type ResponseOf<Name extends ApiName> = Table[Name] extends Api<infer _, infer Response> ? Response : never

export const requests: { readonly [Name in ApiName]: Api<RequestOf<Name>, ResponseOf<Name>> } = table
