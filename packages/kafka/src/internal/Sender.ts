/**
 * Sends what is in the queues of the partitions, one request at a time to each
 * broker, and does what its answers say.
 */
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import { MessageTooLarge, PublishFailed, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import { toInvalidConfiguration, toPublishError } from "../KafkaErrors.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { failure, KafkaFailure } from "./Client.js"
import { Outbox } from "./Outbox.js"
import type { ProduceAnswer, ProducePartition, ProduceRequest, ProduceResponse, RecordError } from "./produce.js"
import type { Batch, Entry, PartitionQueue, ProducerId } from "./PublishQueue.js"
import { errorType } from "./Wire.js"

/** A broker that leads partitions which have something to send. */
interface Leader {
  readonly id: number
  readonly ready: Set<PartitionQueue>
  isSending: boolean
}

const REQUEST_BYTES = 8 * 1024 * 1024
/** A topic that is still unknown after so many tries is not about to be known. */
const UNKNOWN_TOPIC_TRIES = 15

export const make = (
  client: Client,
  topics: KafkaTopics,
  settings: Settings
): Effect.Effect<Outbox, never, Scope.Scope> =>
  Effect.gen(function*() {
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
      if (leader === undefined) leaders.set(id, leader = { id, ready: new Set(), isSending: false })
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
            for (const round of rounds(leader, id.right)) yield* send(leader, round)
            // Those who have their receipts publish again now, in company with what has come meanwhile.
            yield* Effect.yieldNow()
          }
        }
        leader.isSending = false
      }).pipe(
        Effect.tapDefect((cause) =>
          Effect.zipRight(
            Effect.logError("Sending broke down", cause),
            Effect.sync(() => {
              leader.isSending = false
            })
          )
        ),
        Effect.annotateLogs({ module: "KafkaProducer", broker: leader.id })
      )

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
      const taken = [...leader.ready]
      leader.ready.clear()
      return taken
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
        let round = rounds.find(({ bytes, id }) => id === batch.producer && bytes + batch.bytes <= REQUEST_BYTES)
        if (round === undefined) rounds.push(round = { id: batch.producer, bytes: 0, batches: [] })
        round.bytes += batch.bytes
        round.batches.push(batch)
      }
      return rounds.map((round) => round.batches)
    }

    const send = (leader: Leader, batches: ReadonlyArray<Batch>): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const batch of batches) batch.sent++
        const request: ProduceRequest = {
          acks: -1,
          timeout: settings.requestTimeout,
          compression,
          codec,
          ...batches[0]!.producer,
          topicData: topicData(batches)
        }
        return client.call<ProduceResponse>(leader.id, "produce", "Produce", request)
      }).pipe(
        Effect.matchEffect({
          onFailure: (error) => {
            const isEncoding = error.type === "Encoding"
            if (!error.sent) { for (const batch of batches) batch.sent-- }
            // Which of them it was is found out by sending each alone.
            if (isEncoding && batches.length > 1) {
              return Effect.forEach(batches, (batch) => send(leader, [batch]), { discard: true })
            }
            for (const batch of batches) {
              batch.queue.inFlight = false
              if (isEncoding) notEncoded(batch, error)
              else {
                if (batch.sent === 0) putBack(batch, false)
                rest(batch.queue, error)
              }
            }
            return Effect.sync(() => outbox.admit())
          },
          onSuccess: (response) => {
            const answers = answersOf(response)
            for (const batch of batches) {
              batch.queue.inFlight = false
              const answer = answers.get(`${batch.queue.topic}/${batch.queue.partition}`)
              if (answer !== undefined) conclude(batch, answer)
              else {rest(
                  batch.queue,
                  new KafkaFailure({ type: "Client", sent: true, cause: "no answer for a partition" })
                )}
            }
            return Effect.sync(() => outbox.admit())
          }
        })
      )

    /** A codec that throws, or a message that can't be written: trying again does not help. */
    const notEncoded = (batch: Batch, error: KafkaFailure): void => {
      if (batch.sent === 0 && batch.entries.length > 1) {
        putBack(batch, true)
        return schedule(batch.queue)
      }
      refuse(batch, () => toPublishError(batch.queue.topic, error), batch.sent > 0)
    }

    // ---- what the broker says of a batch ----

    const conclude = (batch: Batch, { baseOffset, errorCode, recordErrors }: ProduceAnswer): void => {
      const type = errorCode === 0 ? "" : errorType(errorCode)
      if (type === "") return written(batch, Number(baseOffset))
      // A repetition that the broker knows, and of which it has forgotten the offset.
      if (type === "DUPLICATE_SEQUENCE_NUMBER") return written(batch, undefined)
      const error = failure("Produce", errorCode)
      if (retriable.has(type)) return rest(batch.queue, error)
      if (lostCount.has(type)) return renumber(batch, error)
      if (!tooLarge.has(type)) {
        // Of an earlier attempt, whose answer was lost, nobody knows.
        if (batch.sent === 1 && refuseNamed(batch, type, recordErrors)) return
        return refuse(batch, () => toPublishError(batch.queue.topic, error))
      }
      // Which of them it was is found out by sending each alone.
      if (batch.entries.length > 1) {
        if (batch.sent > 1) forget(batch)
        putBack(batch, true)
        return schedule(batch.queue)
      }
      refuse(batch, ({ size }) => new MessageTooLarge({ topic: batch.queue.topic, size, cause: error }))
    }

    /** The records for which the broker has written nothing of the batch: the others are sent without them, in their order. */
    const refuseNamed = (batch: Batch, type: string, errors: ReadonlyArray<RecordError> = []): boolean => {
      const named = errors.filter(({ index }) => batch.entries[index] !== undefined)
      if (named.length === 0) return false
      for (const { index, message } of named) {
        const error = new KafkaFailure({ type, sent: true, cause: message ?? "the broker refuses this record" })
        outbox.fail(batch.entries[index]!, toPublishError(batch.queue.topic, error))
      }
      putBack(batch, false)
      schedule(batch.queue)
      return true
    }

    const written = (batch: Batch, baseOffset: number | undefined): void => {
      const { partition, topic } = batch.queue
      batch.queue.written(batch)
      batch.entries.forEach((entry, i) =>
        outbox.end(entry, Either.right({ topic, partition, offset: baseOffset === undefined ? -1 : baseOffset + i }))
      )
      schedule(batch.queue)
    }

    const putBack = (batch: Batch, alone: boolean): void => {
      for (const entry of batch.queue.putBack(batch, alone)) outbox.drop(entry)
    }

    /** What became of the batch is not known for sure, so its numbers can't be used again. */
    const forget = (batch: Batch): void => {
      batch.queue.producer = undefined
      if (producer === batch.producer) producer = undefined
    }

    const unknown = (topic: string, cause: unknown): PublishFailed =>
      new PublishFailed({ topic, reason: "Rejected", outcome: "unknown", cause })

    /** The broker refuses the batch; an earlier attempt, whose answer was lost, may have been written all the same. */
    const refuse = (batch: Batch, error: (entry: Entry) => PublishError, isUnknown = batch.sent > 1): void => {
      if (isUnknown) forget(batch)
      batch.queue.batch = undefined
      for (const entry of batch.entries) {
        outbox.fail(entry, isUnknown ? unknown(batch.queue.topic, error(entry)) : error(entry))
      }
      schedule(batch.queue)
    }

    /** The broker has lost count of this producer: what it never had is sent under another id, in the same order. */
    const renumber = (batch: Batch, error: KafkaFailure): void => {
      const { queue } = batch
      forget(batch)
      if (batch.sent > 1) return refuse(batch, () => toPublishError(queue.topic, error))
      putBack(batch, false)
      rest(queue, error)
    }

    /** Waits, asks who leads the partition now, and goes on. */
    const rest = (queue: PartitionQueue, error: KafkaFailure): void => {
      if (queue.resting) return
      queue.resting = true
      queue.failures++
      queue.lastFailure = error
      const refused = toInvalidConfiguration(error, queue.topic)
      if (refused !== undefined) giveUp(queue, refused)
      fork(
        Effect.logDebug("Publishing is tried again", error).pipe(
          Effect.when(() => queue.failures === 3),
          Effect.zipRight(Effect.sleep(Math.min(1_000, 50 * 2 ** Math.min(queue.failures, 6)))),
          Effect.zipRight(Effect.either(topics.refresh(queue.topic))),
          Effect.map((known) => {
            queue.resting = false
            if (Either.isRight(known)) return schedule(queue)
            if (known.left.type === "UNKNOWN_TOPIC_OR_PARTITION" && queue.failures >= UNKNOWN_TOPIC_TRIES) {
              return giveUp(queue, new UnknownTopic({ topic: queue.topic, transport: "kafka", cause: known.left }))
            }
            rest(queue, known.left)
          }),
          Effect.annotateLogs({ module: "KafkaProducer", topic: queue.topic, partition: queue.partition })
        )
      )
    }

    /** Nothing of the partition can be sent. */
    const giveUp = (queue: PartitionQueue, error: PublishError): void => {
      const { batch } = queue
      const waiting = queue.clear()
      if (batch !== undefined) {
        queue.batch = undefined
        forget(batch)
        for (const entry of batch.entries) outbox.fail(entry, batch.sent > 0 ? unknown(queue.topic, error) : error)
      }
      for (const entry of waiting) outbox.fail(entry, error)
      outbox.admit()
    }

    return outbox
  })

/** What the broker says of a batch that it will write when it is asked again. */
const retriable = new Set([
  "BROKER_NOT_AVAILABLE",
  "CORRUPT_MESSAGE",
  "FENCED_LEADER_EPOCH",
  "KAFKA_STORAGE_ERROR",
  "LEADER_NOT_AVAILABLE",
  "NETWORK_EXCEPTION",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "NOT_LEADER_FOR_PARTITION",
  "REPLICA_NOT_AVAILABLE",
  "REQUEST_TIMED_OUT",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_OR_PARTITION"
])

const tooLarge = new Set(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"])

const lostCount = new Set([
  "INVALID_PRODUCER_EPOCH",
  "OUT_OF_ORDER_SEQUENCE_NUMBER",
  "PRODUCER_FENCED",
  "UNKNOWN_PRODUCER_ID"
])

const initProducerId = (client: Client): Effect.Effect<ProducerId, KafkaFailure> =>
  client.call<ProducerId & { readonly errorCode: number }>("any", "produce", "InitProducerId", {
    transactionTimeout: 60_000
  }).pipe(
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
    response.topics.flatMap(({ partitions, topicName }) =>
      partitions.map((answer) => [`${topicName}/${answer.partition}`, answer] as const)
    )
  )
