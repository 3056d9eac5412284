/**
 * Where another group has stopped, for a group that begins there: behind what each of the other one's consumers has acknowledged without a
 * gap. What is acknowledged above that, no server tells, so it is handed over again, as a possible duplicate; what a group of this library has settled
 * before handling it stands in the bucket, and is not. Only partitions without a consumer of this group need it, and only while the other
 * one is not alive.
 */
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import { TakeOverRefused } from "@effect-eventbus/core/EventBusError"
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Settings } from "../NatsConfig.js"
import { codes, isNotFound, type NatsRequestFailed } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import type { Api, ConsumerConfig, ConsumerInfo } from "./Api.js"
import * as Bucket from "./Bucket.js"
import type { Connection } from "./Connection.js"
import { partitionKey } from "./GroupView.js"
import type { Stream } from "./NatsStreams.js"
import * as SettledRecord from "./SettledRecord.js"

export interface Options {
  readonly connection: Connection
  readonly api: Api
  readonly settings: Settings
  readonly request: SubscribeRequest
  readonly stream: Stream
  /** The consumers of this group, one for each partition. */
  readonly configs: ReadonlyArray<ConsumerConfig>
}

export type Failure = NatsRequestFailed | InvalidConfiguration | TakeOverRefused

export interface Succession {
  /** The consumers as they are to be made where they are missing. */
  readonly configs: ReadonlyArray<ConsumerConfig>
  /** To be run when they are made, and before anything is read. */
  readonly done: Effect.Effect<void, NatsRequestFailed>
}

/** Of the other group, what a partition needs. */
interface Former {
  readonly partition: number
  readonly consumer: ConsumerInfo
}

/** How often it is looked whether something moves, and for how long at least, in milliseconds. */
const interval = 250
const least = 1_500

const concurrency = 16

export const begin = (options: Options): Effect.Effect<Succession, Failure> => {
  const { configs, request: { startFrom } } = options
  return typeof startFrom === "object" && "group" in startFrom
    ? new Take(options, startFrom.group).run
    : Effect.succeed({ configs, done: Effect.void })
}

const orUndefined = (failure: NatsRequestFailed) =>
  isNotFound(failure) && failure.error?.err_code !== codes.streamNotFound

class Take {
  private readonly bucket: Bucket.Bucket
  private readonly topic: string
  private readonly prefix: string
  private readonly formerPrefix: string

  constructor(private readonly options: Options, private readonly from: string) {
    const { connection, request, settings, stream } = options
    const replicas = Math.max(settings.options.replicas ?? 1, stream.replicas)
    this.bucket = Bucket.make(connection, settings, settings.requestTimeout, replicas)
    this.topic = request.topic.name
    this.prefix = Subject.toLease(request.group, this.topic)
    this.formerPrefix = Subject.toLease(from, this.topic)
  }

  readonly run: Effect.Effect<Succession, Failure> = Effect.suspend(() => {
    const { configs } = this.options
    return Effect.gen(this, function*() {
      yield* this.bucket.ensure
      const own = yield* Effect.forEach(configs, ({ durable_name }) => this.info(durable_name!), { concurrency })
      const missing = own.flatMap((info, partition) => info === undefined ? [partition] : [])
      const unsaid = yield* this.unsaid(missing)
      const wanted = Array.from(new Set([...missing, ...unsaid]))
      const unchanged = { configs, done: Effect.void }
      if (wanted.length === 0) return unchanged
      const formers = yield* this.formers(wanted)
      if (formers.length === 0) {
        // Partitions that were added to the topic later have nothing to be taken over.
        return missing.length < own.length ? unchanged : yield* this.unknown
      }
      yield* this.checkQuiet(formers)
      yield* Effect.forEach(formers, (former) => this.sayOffered(former), { concurrency, discard: true })
      const starts = new Map(formers.map(({ consumer, partition }) => [partition, startOf(consumer)]))
      yield* Effect.logInfo("The group begins where another one has stopped").pipe(Effect.annotateLogs({
        from: formers[0]!.consumer.name,
        positions: Array.from(
          starts,
          ([partition, { opt_start_seq, opt_start_time }]) =>
            `${partition}: ${opt_start_seq ?? opt_start_time ?? "earliest"}`
        ).join(", ")
      }))
      return {
        configs: configs.map((config, partition) => {
          const start = missing.includes(partition) ? starts.get(partition) : undefined
          if (start === undefined) return config
          return { ...config, ...start }
        }),
        done: Effect.forEach(
          formers.filter(({ partition }) => unsaid.includes(partition)),
          (former) => this.saySettled(former),
          { concurrency, discard: true }
        )
      }
    })
  })

  private info(name: string): Effect.Effect<ConsumerInfo | undefined, NatsRequestFailed> {
    return Effect.catchIf(
      this.options.api.consumerInfo(this.options.stream.name, name),
      orUndefined,
      () => Effect.succeed(undefined)
    )
  }

  /** Partitions that nobody of this group has begun to settle in before handling: there it is to be said what the other one has settled. */
  private unsaid(missing: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<number>, NatsRequestFailed> {
    const { configs, request } = this.options
    if (request.semantics !== "at-most-once") return Effect.succeed([])
    const partitions = Array.from(configs, (_, partition) => partition)
    return Effect.filter(partitions, (partition) =>
      missing.includes(partition)
        ? Effect.succeed(true)
        : Effect.map(this.bucket.get(SettledRecord.keyOf(this.prefix, partition)), (entry) => entry === undefined), {
      concurrency
    })
  }

  /** A group of this library first, then a consumer that has the name itself. */
  private formers(partitions: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<Former>, Failure> {
    const { configs, request } = this.options
    return Effect.gen(this, function*() {
      const found: Array<Former> = []
      if (this.from !== request.group) {
        for (const partition of partitions) {
          const name = this.durableOf(partition)
          const consumer = name === undefined ? undefined : yield* this.info(name)
          if (consumer !== undefined) found.push({ partition, consumer })
        }
      }
      if (found.length > 0) return found
      const isOwn = configs.some(({ durable_name }) => durable_name === this.from)
      if (!isNameable(this.from) || isOwn) return []
      const consumer = yield* this.info(this.from)
      if (consumer === undefined) return []
      const filters = filtersOf(consumer.config)
      const missed = configs.find(({ filter_subject }) =>
        !filters.some((filter) => Subject.covers(filter, filter_subject!))
      )
      if (missed !== undefined) {
        return yield* this.refused("OtherTopic", [`consumer "${this.from}", which reads ${filters.join(", ")}`])
      }
      return partitions.map((partition) => ({ partition, consumer }))
    })
  }

  private durableOf(partition: number): string | undefined {
    const isPartitioned = this.options.configs[0]!.filter_subject !== this.topic
    return Either.getOrUndefined(Subject.toDurable(this.from, this.topic, isPartitioned ? partition : undefined))
  }

  private refused(reason: TakeOverRefused["reason"], details: ReadonlyArray<string>): TakeOverRefused {
    return new TakeOverRefused({
      topic: this.topic,
      group: this.options.request.group,
      from: this.from,
      reason,
      details
    })
  }

  private readonly unknown: Effect.Effect<never, Failure> = Effect.suspend(() => {
    const { request, stream } = this.options
    const names = [this.from === request.group ? undefined : this.durableOf(0), this.from]
    const looked = names.flatMap((name) => name === undefined ? [] : [`consumer "${name}" of stream "${stream.name}"`])
    // Its other topics have keys as well.
    const ofGroup = this.formerPrefix.slice(0, this.formerPrefix.indexOf("."))
    return Effect.flatMap(
      this.bucket.keys(ofGroup),
      ({ keys }) => this.refused(keys.length > 0 && this.from !== request.group ? "OtherTopic" : "Unknown", looked)
    )
  })

  /** Nothing of the other group moves for as long as one of its instances can be silent, and nobody waits for messages. */
  private checkQuiet(formers: ReadonlyArray<Former>): Effect.Effect<void, Failure> {
    return Effect.gen(this, function*() {
      const names = Array.from(new Set(formers.map(({ consumer }) => consumer.name)))
      const consumers = new Map(formers.map(({ consumer }) => [consumer.name, consumer]))
      const members = yield* this.members
      const lasts = members.size === 0 ? least : this.options.settings.leaseDuration * 1.1 + interval
      const end = performance.now() + lasts
      for (;;) {
        yield* Effect.sleep(interval)
        const now = yield* Effect.forEach(names, (name) => this.info(name), { concurrency })
        const isOver = performance.now() >= end
        for (const info of now) {
          const sign = info === undefined ? undefined : signOfLife(consumers.get(info.name)!, info, isOver)
          if (sign !== undefined) return yield* this.refused("Alive", [`consumer "${info!.name}" ${sign}`])
        }
        const renewed = Array.from(yield* this.members).filter(([key, { revision }]) =>
          members.get(key)?.revision !== revision
        )
        if (renewed.length > 0) return yield* this.refused("Alive", renewed.map(([, { who }]) => who))
        if (!isOver) continue
        const inHand = yield* this.inHand(now)
        return inHand === undefined ? undefined : yield* this.refused("Alive", [inHand])
      }
    })
  }

  private readonly members = Effect.suspend(() =>
    Effect.gen(this, function*() {
      const { keys } = yield* this.bucket.keys(`${this.formerPrefix}.member`)
      const entries = yield* Effect.forEach(keys, (key) => this.bucket.get(key), { concurrency })
      return new Map(entries.flatMap((entry, i) => {
        if (entry?.value === undefined) return []
        const { host = "?", pid = "?" } = entry.value
        return [[keys[i]!, { revision: entry.revision, who: `process ${pid} at ${host}` }] as const]
      }))
    })
  )

  /** Of a group without leases somebody may be at work on what was delivered, as long as the server would not deliver it again. */
  private inHand(infos: ReadonlyArray<ConsumerInfo | undefined>): Effect.Effect<string | undefined> {
    return Effect.map(Clock.currentTimeMillis, (millis) => {
      for (const info of infos) {
        if (info === undefined || info.name !== this.from || info.num_ack_pending === 0) continue
        const now = info.ts === undefined ? millis : Date.parse(info.ts)
        const wait = (info.config.ack_wait ?? 0) / 1e6
        if (now - Date.parse(info.delivered.last_active ?? "") < wait) {
          return `consumer "${info.name}" has ${info.num_ack_pending} messages in hand, delivered less than ${wait} ms ago (ack_wait)`
        }
      }
      return undefined
    })
  }

  /** What may have been handed over by the other group is marked, also after a crash of this one before it has read anything. */
  private sayOffered({ consumer, partition }: Former): Effect.Effect<void, NatsRequestFailed> {
    const { stream } = this.options
    const key = partitionKey(this.prefix, partition)
    return Effect.gen(this, function*() {
      const given = yield* this.bucket.get(partitionKey(this.formerPrefix, partition))
      const limit = yield* this.bucket.get(`=offered.${this.formerPrefix}.${partition}`)
      const recorded = limit?.value?.stream === stream.created ? limit.value.offered : undefined
      const isOurs = consumer.name !== this.from
      const offered = Math.max(
        consumer.delivered.stream_seq,
        // Whoever has given it back said it. After a crash it is the limit that was reserved.
        isOurs ? given?.value?.offered ?? Math.min(recorded ?? stream.last, stream.last) : 0
      )
      const own = yield* this.bucket.get(key)
      if (own?.value?.owner !== undefined) return
      yield* this.bucket.put(key, { offered: Math.max(offered, own?.value?.offered ?? 0) }, own?.revision ?? 0)
    }).pipe(Effect.catchTag("Conflict", () => Effect.void))
  }

  private saySettled({ consumer, partition }: Former): Effect.Effect<void, NatsRequestFailed> {
    const { configs, stream } = this.options
    return Effect.gen(this, function*() {
      const entry = yield* this.bucket.get(SettledRecord.keyOf(this.formerPrefix, partition))
      const { latest = 0, settled = [] } = entry?.value ?? {}
      const former = { stream: entry?.value?.stream ?? "", consumer: entry?.value?.consumer ?? "" }
      const isOfFormer = SettledRecord.isSame(former, { stream: stream.created, consumer: consumer.created ?? "" })
      const own = yield* this.info(configs[partition]!.durable_name!)
      if (!isOfFormer || own === undefined) return
      const said = { stream: stream.created, consumer: own.created ?? "", latest, settled, owner: "another group" }
      yield* this.bucket.put(SettledRecord.keyOf(this.prefix, partition), said, 0)
    }).pipe(Effect.catchTag("Conflict", () => Effect.void))
  }
}

type Start = Pick<ConsumerConfig, "deliver_policy" | "opt_start_seq" | "opt_start_time">

/** Behind what is acknowledged without a gap; without acknowledgements, behind what was delivered. */
const startOf = ({ ack_floor, config, created, delivered }: ConsumerInfo): Start => {
  // Before 2.10 a consumer without an acknowledgement does not say where it began.
  const isFloor = ack_floor.stream_seq > 0 || delivered.consumer_seq === 0 || config.ack_policy === "none"
  if (isFloor) {
    const isBegun = delivered.consumer_seq > 0 && config.ack_policy !== "none"
    const position = isBegun ? ack_floor.stream_seq : delivered.stream_seq
    return { deliver_policy: "by_start_sequence", opt_start_seq: position + 1 }
  }
  const { deliver_policy = "all", opt_start_seq, opt_start_time } = config
  if (opt_start_seq !== undefined && deliver_policy === "by_start_sequence") return { deliver_policy, opt_start_seq }
  if (opt_start_time !== undefined && deliver_policy === "by_start_time") return { deliver_policy, opt_start_time }
  return deliver_policy === "new" && created !== undefined
    ? { deliver_policy: "by_start_time", opt_start_time: created }
    : { deliver_policy: "all" }
}

const filtersOf = ({ filter_subject, filter_subjects }: ConsumerConfig): ReadonlyArray<string> =>
  filter_subjects !== undefined && filter_subjects.length > 0
    ? filter_subjects
    : [filter_subject === undefined || filter_subject === "" ? ">" : filter_subject]

/** What JetStream takes as the name of a consumer. */
const isNameable = (name: string): boolean => /^[^\s.*>/\\]+$/.test(name)

/** That somebody reads from it; whoever died a moment ago can have left a request, which ends soon. */
const signOfLife = (before: ConsumerInfo, now: ConsumerInfo, isOver: boolean): string | undefined => {
  if (now.push_bound === true) return "delivers to somebody who listens"
  if (now.delivered.consumer_seq !== before.delivered.consumer_seq) return "delivers messages"
  if (now.ack_floor.stream_seq !== before.ack_floor.stream_seq || now.num_ack_pending !== before.num_ack_pending) {
    return "gets acknowledgements"
  }
  return isOver && now.num_waiting > 0 ? `has ${now.num_waiting} requests for messages that wait` : undefined
}
