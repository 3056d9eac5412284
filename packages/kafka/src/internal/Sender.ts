/**
 * Sends what is in the queues of the partitions, one request at a time to each
 * broker. What its answers mean is said in `Conclusions`.
 */
import { UnknownTopic } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import { backoff } from "./backoff.js"
import type { Client } from "./Client.js"
import * as Conclusions from "./Conclusions.js"
import { failure, KafkaFailure } from "./Failure.js"
import { monotonic } from "./monotonic.js"
import { Outbox } from "./Outbox.js"
import type { ProducePartition, ProduceRequest, ProduceResponse } from "./produce.js"
import type { Batch, PartitionQueue, ProducerId } from "./PublishQueue.js"

/** A broker that leads partitions which have something to send. */
interface Leader {
  readonly id: number
  readonly ready: Set<PartitionQueue>
  /** Those that it sends from now. */
  taken: ReadonlyArray<PartitionQueue>
  isSending: boolean
}

const REQUEST_BYTES = 8 * 1024 * 1024
/** What brokers have not known for so long is not about to be known. Those that have just begun may not know it yet. */
const GONE_AFTER_MS = 5_000

export const make = (
  client: Client,
  topics: KafkaTopics,
  settings: Settings
): Effect.Effect<Outbox, never, Scope.Scope> =>
  Effect.gen(function*() {
    const now = monotonic(yield* Effect.clock)
    const fork = yield* FiberSet.makeRuntime<never>()
    const leaders = new Map<number, Leader>()
    const limits = { bytes: settings.batchBytes, messages: settings.batchMessages }
    let producer: ProducerId | undefined
    const { compression } = settings
    const codec = compression === "none" ? undefined : settings.codecs[compression]

    const schedule = (queue: PartitionQueue): void => {
      if (queue.resting || queue.inFlight || (queue.batch === undefined && queue.isEmpty)) return
      const id = topics.known(queue.topic)?.leaders[queue.partition] ?? -1
      if (id < 0) {
        return rest(queue, new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: false, cause: "no leader" }))
      }
      let leader = leaders.get(id)
      if (leader === undefined) leaders.set(id, leader = { id, ready: new Set(), taken: [], isSending: false })
      leader.ready.add(queue)
      if (leader.isSending) return
      leader.isSending = true
      fork(sender(leader))
    }

    const outbox = new Outbox(settings.maxQueuedBytes, schedule)

    /** Sends until nothing is left to send to this broker. */
    const sender = (leader: Leader): Effect.Effect<void> =>
      Effect.gen(function*() {
        // Company from the same turn of the event loop.
        yield* settings.linger > 0 ? Effect.sleep(settings.linger) : Effect.yieldNow()
        while (leader.ready.size > 0) {
          const id = yield* Effect.either(prepare(leader))
          if (Either.isLeft(id)) { for (const queue of take(leader)) rest(queue, id.left) }
          else {
            for (const round of rounds(leader, id.right)) yield* whole(leader, round)
            // Those who have their receipts publish again now, in company with what has come meanwhile.
            yield* Effect.yieldNow()
          }
        }
        leader.isSending = false
      }).pipe(
        Effect.catchAllDefect((defect) =>
          Effect.zipRight(
            Effect.logError("Sending broke down", defect),
            Effect.sync(() => {
              leader.isSending = false
              for (const queue of [...leader.taken, ...take(leader)]) {
                queue.inFlight = false
                rest(queue, broken(defect))
              }
            })
          )
        ),
        Effect.annotateLogs({ module: "KafkaProducer", broker: leader.id })
      )

    /** A mistake of ours must not keep the partitions for good: whether anything was sent is not known then. */
    const whole = (leader: Leader, batches: ReadonlyArray<Batch>): Effect.Effect<void> =>
      Effect.catchAllDefect(send(leader, batches), (defect) =>
        Effect.zipRight(
          Effect.logError("Sending broke down", defect),
          Effect.sync(() => {
            for (const batch of batches) {
              if (batch.queue.inFlight && batch.queue.batch === batch) {
                failed(batch, broken(defect))
              }
            }
            outbox.admit()
          })
        ))

    /** A connection and a producer id first: what was not sent can still be taken back. */
    const prepare = (leader: Leader): Effect.Effect<ProducerId, KafkaFailure> =>
      Effect.zipRight(
        client.connect(leader.id, "produce"),
        Effect.suspend(() =>
          producer !== undefined
            ? Effect.succeed(producer)
            : Effect.tap(initProducerId(client), (id) =>
              Effect.sync(() => {
                producer = id
              }))
        )
      )

    const take = (leader: Leader): ReadonlyArray<PartitionQueue> => {
      leader.taken = [...leader.ready]
      leader.ready.clear()
      return leader.taken
    }

    /** The batches that go out together: those of one producer id, and no more bytes than a request may have. */
    const rounds = (leader: Leader, id: ProducerId): ReadonlyArray<ReadonlyArray<Batch>> => {
      const rounds: Array<{ bytes: number; readonly id: ProducerId; readonly batches: Array<Batch> }> = []
      for (const queue of take(leader)) {
        // When leaders move, a queue can be in the hands of the one before.
        if (queue.inFlight || queue.resting) continue
        const batch = queue.next(id, limits)
        if (batch === undefined) continue
        queue.inFlight = true
        let round = rounds.find(({ bytes, id }) => isSame(id, batch.producer) && bytes + batch.bytes <= REQUEST_BYTES)
        if (round === undefined) rounds.push(round = { id: batch.producer, bytes: 0, batches: [] })
        round.bytes += batch.bytes
        round.batches.push(batch)
      }
      return rounds.map((round) => round.batches)
    }

    const send = (leader: Leader, batches: ReadonlyArray<Batch>): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const batch of batches) {
          batch.sent++
          batch.sentAt ??= now()
        }
        const request: ProduceRequest = {
          acks: -1,
          timeout: settings.requestTimeout,
          compression,
          codec,
          ...batches[0]!.producer,
          topicData: topicData(batches)
        }
        return client.call(leader.id, "produce", "Produce", request)
      }).pipe(
        Effect.matchEffect({
          onFailure: (error) => {
            if (!error.sent) { for (const batch of batches) batch.sent-- }
            // Which of them it was is found out by sending each alone.
            if (error.type === "Encoding" && batches.length > 1) {
              return Effect.forEach(batches, (batch) => send(leader, [batch]), { discard: true })
            }
            for (const batch of batches) failed(batch, error)
            return Effect.sync(() => outbox.admit())
          },
          onSuccess: (response) => {
            const answers = answersOf(response)
            for (const batch of batches) {
              const answer = answers.get(`${batch.queue.topic}/${batch.queue.partition}`)
              if (answer === undefined) failed(batch, noAnswer)
              else {
                batch.queue.inFlight = false
                conclusions.answered(batch, answer)
              }
            }
            outbox.admit()
            // A quota: what is sent sooner would only wait at the broker.
            const { throttleMs = 0 } = response
            return throttleMs > 0 ? Effect.sleep(throttleMs) : Effect.void
          }
        })
      )

    const failed = (batch: Batch, error: KafkaFailure): void => {
      batch.queue.inFlight = false
      if (error.type === "Encoding") return conclusions.notEncoded(batch, error)
      if (batch.sent === 0) conclusions.notSent(batch)
      rest(batch.queue, error)
    }

    /** A mistake of ours in it must not keep the partition for good. */
    const refreshed = (topic: string) =>
      Effect.catchAllDefect(Effect.suspend(() => topics.refresh(topic)), (defect) => Effect.fail(broken(defect)))

    /** Waits, asks who leads the partition now, and goes on. */
    const rest = (queue: PartitionQueue, error: KafkaFailure): void => {
      if (queue.resting) return
      queue.resting = true
      queue.failures++
      queue.lastFailure = error
      const refused = toInvalidConfiguration(error, queue.topic)
      if (refused !== undefined) conclusions.giveUp(queue, refused)
      const { batch } = queue
      if (batch?.sentAt !== undefined && now() - batch.sentAt >= settings.deliveryTimeout) {
        conclusions.overdue(batch, error)
      }
      fork(
        Effect.logDebug("Publishing is tried again", error.message).pipe(
          Effect.when(() => queue.failures === 3),
          Effect.zipRight(Effect.sleep(backoff(queue.failures))),
          Effect.zipRight(Effect.either(refreshed(queue.topic))),
          Effect.map((known) => {
            queue.resting = false
            const failure = Either.isLeft(known)
              ? known.left
              // It was made again, with fewer of them.
              : queue.partition < known.right.leaders.length
              ? undefined
              : noSuchPartition
            if (failure?.type !== "UNKNOWN_TOPIC_OR_PARTITION") queue.goneSince = undefined
            else if (now() - (queue.goneSince ??= now()) >= GONE_AFTER_MS) {
              queue.goneSince = undefined
              return conclusions.giveUp(
                queue,
                new UnknownTopic({ topic: queue.topic, transport: "kafka", cause: failure })
              )
            }
            if (failure === undefined) schedule(queue)
            else rest(queue, failure)
          }),
          Effect.annotateLogs({ module: "KafkaProducer", topic: queue.topic, partition: queue.partition })
        )
      )
    }

    const conclusions = Conclusions.make({
      outbox,
      schedule,
      rest,
      retire: (batch) => {
        if (producer?.producerId === batch.producer.producerId) producer = undefined
      }
    })

    return outbox
  })

const isSame = (one: ProducerId, other: ProducerId): boolean =>
  one.producerId === other.producerId && one.producerEpoch === other.producerEpoch

const broken = (cause: unknown) => new KafkaFailure({ type: "Client", sent: true, cause })

const noSuchPartition = new KafkaFailure({
  type: "UNKNOWN_TOPIC_OR_PARTITION",
  sent: false,
  cause: "The topic has fewer partitions now"
})

const noAnswer = new KafkaFailure({ type: "Client", sent: true, cause: "no answer for a partition" })

const initProducerId = (client: Client): Effect.Effect<ProducerId, KafkaFailure> =>
  client.call("any", "produce", "InitProducerId", {}).pipe(
    Effect.flatMap(({ errorCode, producerEpoch, producerId }) =>
      errorCode === 0
        ? Effect.succeed({ producerId, producerEpoch })
        : Effect.fail(failure("InitProducerId", errorCode))
    )
  )

const topicData = (batches: ReadonlyArray<Batch>): ProduceRequest["topicData"] => {
  const topics = new Map<string, Array<ProducePartition>>()
  for (const { entries, firstSequence, queue } of batches) {
    const partitions = topics.get(queue.topic) ?? []
    topics.set(queue.topic, partitions)
    partitions.push({ partition: queue.partition, firstSequence, messages: entries.map(({ record }) => record) })
  }
  return Array.from(topics, ([topic, partitions]) => ({ topic, partitions }))
}

const answersOf = (response: ProduceResponse) =>
  new Map(
    response.topics.flatMap(({ partitions, topic }) =>
      partitions.map((answer) => [`${topic}/${answer.partition}`, answer] as const)
    )
  )
