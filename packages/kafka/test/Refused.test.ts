import type { Transport } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either } from "effect"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { ProduceAnswer } from "../src/internal/produce.js"
import { producerOf } from "./fakeBroker.js"
import { eventually, finishing, message, published, request, spec, transport } from "./Harness.js"

const timeout = Duration.seconds(15)

/** A message of an aggregate, or without a key: that one is refused by a topic that is compacted. */
const messageOf = (value: string) => message(value.startsWith("bad") ? undefined : value.slice(0, 1), value)

const ends = (results: ReadonlyArray<Either.Either<Transport.Receipt, { readonly message: string }>>) =>
  results.map((result) => Either.isRight(result) ? result.right.offset : result.left)

const refused = { _tag: "PublishFailed", reason: "Rejected", outcome: "not-written", cause: { type: "INVALID_RECORD" } }

for (const compression of ["none", "gzip"] as const) {
  it.scopedLive(
    `of a batch with records that the broker refuses only these fail (${compression})`,
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* transport({ topicSettings: { [topic.name]: { cleanupPolicy: "compact" } }, compression })
        const publish = (values: ReadonlyArray<string>) => service.publish(topic, values.map(messageOf), { timeout })
        const results = yield* publish(["bad 0", "a1", "b1", "bad 1", "a2", "bad 2", "b2", "a3", "bad 3"])
        expect(ends(results)).toMatchObject([refused, 0, 1, refused, 2, refused, 3, 4, refused])
        expect(ends(results)[0]).toMatchObject({ cause: { message: expect.stringContaining("key") } })
        // What comes next has the right numbers, also after a batch of which nothing was left.
        expect(ends(yield* publish(["bad 4", "bad 5"]))).toMatchObject([refused, refused])
        expect(ends(yield* publish(["bad 6"]))).toMatchObject([refused])
        expect(ends(yield* publish(["a4", "b3"]))).toMatchObject([5, 6])
        // Many at once, each with a publisher of its own.
        const values = Array.from({ length: 300 }, (_, i) => i % 7 === 3 ? `bad ${i}` : `${"cde"[i % 3]}${i}`)
        const many = yield* Effect.forEach(values, (value) => publish([value]), { concurrency: "unbounded" })
        const good = values.filter((value) => !value.startsWith("bad"))
        expect(many.map(([result]) => Either.isRight(result!))).toEqual(values.map((value) => good.includes(value)))
        const subscriber = finishing()
        yield* service.subscribe(request(topic), subscriber.consumer)
        yield* eventually("all others arrive", () => subscriber.values().length === 7 + good.length)
        expect(subscriber.values()).toEqual(["a1", "b1", "a2", "b2", "a3", "a4", "b3", ...good])
        yield* published(service, topic, [message("a", "last")])
      }),
    30_000
  )
}

/** A broker that gives these answers to the requests that publish, one after the other. */
const producer = (answers: Array<Partial<ProduceAnswer> | KafkaFailure>) =>
  Effect.gen(function*() {
    const sent: Array<ReadonlyArray<string>> = []
    const ids: Array<string> = []
    const sequences: Array<number> = []
    const topic = spec("orders", 1)
    const made = yield* producerOf(topic, ({ producerEpoch, producerId, topicData: [data] }) => {
      const { firstSequence, messages, partition } = data!.partitions[0]!
      sent.push(messages.map(({ value }) => String(value)))
      ids.push(`${producerId}/${producerEpoch}`)
      sequences.push(firstSequence)
      const answer = answers.shift()!
      if (answer instanceof KafkaFailure) return Effect.fail(answer)
      const partitions = [{ partition, errorCode: 0, baseOffset: 0, ...answer }]
      return Effect.succeed({ topics: [{ topic: data!.topic, partitions }] })
    })
    const publish = (values: ReadonlyArray<string>) => made.publish(topic, values.map(messageOf), { timeout })
    return { ids, publish, sent, sequences }
  })

const INVALID_RECORD = 87
const named = { errorCode: INVALID_RECORD, recordErrors: [{ index: 1, message: "it has no key" }] }

it.scopedLive("the others of a refused batch go with the numbers that it would have had", () =>
  Effect.gen(function*() {
    const { ids, publish, sent, sequences } = yield* producer([{}, named, { baseOffset: 2 }, { baseOffset: 4 }])
    yield* publish(["a1", "a2"])
    expect(ends(yield* publish(["a3", "bad", "a4"]))).toMatchObject([2, refused, 3])
    expect(ends(yield* publish(["a5"]))).toEqual([4])
    expect(sent).toEqual([["a1", "a2"], ["a3", "bad", "a4"], ["a3", "a4"], ["a5"]])
    expect(sequences).toEqual([0, 2, 2, 4])
    expect(ids).toEqual(["0/0", "0/0", "0/0", "0/0"])
  }))

it.scopedLive("a batch is refused as a whole where the broker names none of its records", () =>
  Effect.gen(function*() {
    const none = { errorCode: INVALID_RECORD, recordErrors: [] }
    const strange = { errorCode: INVALID_RECORD, recordErrors: [{ index: 7, message: null }] }
    const { publish, sent } = yield* producer([none, { errorCode: INVALID_RECORD }, strange])
    for (let i = 0; i < 3; i++) expect(ends(yield* publish(["a1", "bad"]))).toMatchObject([refused, refused])
    expect(sent).toHaveLength(3)
  }))

it.scopedLive("of a batch that is refused when it is sent again, what was written is not known", () =>
  Effect.gen(function*() {
    const lost = new KafkaFailure({ type: "Connection", sent: true, cause: "cut" })
    const { ids, publish, sent } = yield* producer([lost, named, {}])
    const unknown = { _tag: "PublishFailed", outcome: "unknown" }
    expect(ends(yield* publish(["a1", "bad"]))).toMatchObject([unknown, unknown])
    expect(ends(yield* publish(["a2"]))).toEqual([0])
    expect(sent).toEqual([["a1", "bad"], ["a1", "bad"], ["a2"]])
    expect(ids).toEqual(["0/0", "0/0", "0/1"])
  }))
