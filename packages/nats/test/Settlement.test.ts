import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { Acks } from "../src/internal/Acks.js"
import { type Bucket, Conflict, type Entry, type Value } from "../src/internal/Bucket.js"
import { Intake } from "../src/internal/Intake.js"
import { LeaseLost } from "../src/internal/Lease.js"
import { SettledRecord } from "../src/internal/SettledRecord.js"
import { settle } from "../src/internal/Settlement.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

const subject = { stream: "2026-11-28T08:31:39.384467419Z", consumer: "2026-11-28T08:31:39.400447665Z" }

/** One key of a bucket, whose server answers as the test says. */
class Server {
  entry: Entry | undefined
  /** What happens to the next writes. */
  readonly fates: Array<"AnswerLost" | "Hangs"> = []
  /** Called before a write gets there. */
  onWrite: Effect.Effect<void> = Effect.void

  readonly bucket = {
    get: () => Effect.sync(() => this.entry),
    put: (_key: string, value: Value, revision: number) =>
      Effect.suspend(() => Effect.zipRight(this.onWrite, Effect.suspend(() => this.write(value, revision))))
  } as unknown as Bucket

  get recorded() {
    return this.entry?.value?.settled
  }

  private write(value: Value, revision: number): Effect.Effect<number, Conflict> {
    const fate = this.fates.shift()
    if (fate === "Hangs") return Effect.never
    if (revision !== (this.entry?.revision ?? 0)) return new Conflict({ key: "" })
    this.entry = { value: JSON.parse(JSON.stringify(value)) as Value, revision: revision + 1 }
    return fate === "AnswerLost" ? Effect.never : Effect.succeed(revision + 1)
  }
}

/** An owner with messages in hand. */
const owner = (server: Server, sequences: ReadonlyArray<number>, isOwner = () => true) => {
  const { connection } = fakeConnection()
  const intake = new Intake(connection, new Acks(connection, 2_000), undefined, () => true, () => {})
  for (const sequence of sequences) {
    const position = { sequence, delivery: sequence, count: 1, timestamp: 1_000 + sequence, pending: NaN }
    intake.receive({ subject: "orders", data: new Uint8Array(1) } as never, position, `$JS.ACK.${sequence}`)
  }
  const record = new SettledRecord(server.bucket, "group.orders", {
    partition: 0,
    renewEpoch: Effect.suspend(() => isOwner() ? Effect.succeed(1) : new LeaseLost({ partition: 0 }))
  })
  const messages = Array.from(intake.held.values(), ({ message }) => message)
  return {
    begin: record.begin(subject, intake),
    intake,
    settle: (...offsets: ReadonlyArray<number>) =>
      settle(record, intake, Effect.void, "orders", 0, messages.filter(({ offset }) => offsets.includes(offset)))
  }
}

describe("Settling before handling", () => {
  it("is done when it stands in the bucket, and not before", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      const { begin, intake, settle } = owner(server, [1, 2, 5])
      yield* begin
      server.fates.push("Hangs")
      const settling = yield* Effect.fork(settle(1, 2))
      yield* Effect.yieldNow()
      assert.isNull(settling.unsafePoll())
      assert.strictEqual(intake.held.size, 3)
      yield* Fiber.interrupt(settling)
      yield* settle(1, 2)
      assert.deepStrictEqual(server.recorded, [1, 3])
      assert.strictEqual(server.entry?.value?.latest, 1_005)
      assert.deepStrictEqual(Array.from(intake.held.keys()), [5])
      // Again is no harm.
      yield* settle(1, 2)
    })))

  it("goes on where only an answer got lost, or the key was deleted", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      const { begin, settle } = owner(server, [1, 2, 3])
      yield* begin
      server.fates.push("AnswerLost")
      const lost = yield* Effect.fork(settle(1))
      yield* T.waitUntil("it is written", () => server.recorded?.length === 2)
      yield* Fiber.interrupt(lost)
      yield* settle(1, 2)
      assert.deepStrictEqual(server.recorded, [1, 3])
      server.entry = undefined
      yield* settle(3)
      assert.deepStrictEqual(server.recorded, [1, 4])
    })))

  it("is refused to an owner that does not know yet that there is another one", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      let isOwner = true
      const first = owner(server, [1, 2, 3], () => isOwner)
      yield* first.begin
      yield* first.settle(1)
      isOwner = false
      const second = owner(server, [2, 3])
      yield* second.begin
      assert.isTrue(second.intake.finished.has(1))
      const refused = Either.getOrThrow(Either.flip(yield* Effect.either(first.settle(2))))
      assert.include(refused, { _tag: "SettlementFailed", isRetryable: false })
      assert.isFalse(first.intake.finished.has(2))
      yield* second.settle(2, 3)
      assert.deepStrictEqual(server.recorded, [1, 4])
    })))

  it("whoever begins knows also what the owner before records at the last moment", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      const [first, second] = [owner(server, [1, 2]), owner(server, [3])]
      yield* first.begin
      server.onWrite = Effect.suspend(() => {
        server.onWrite = Effect.void
        return Effect.orDie(first.settle(1, 2))
      })
      yield* second.begin
      assert.isTrue(second.intake.finished.has(1) && second.intake.finished.has(2))
      assert.strictEqual(second.intake.latest, 1_003)
      yield* second.settle(3)
      assert.deepStrictEqual(server.recorded, [1, 4])
    })))

  it("what is recorded of another stream or consumer means nothing", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      const first = owner(server, [1, 2])
      yield* first.begin
      yield* first.settle(1, 2)
      const before = server.entry
      const cases = [
        [{ stream: "2026-11-28T08:31:39.384467420Z" }, false],
        [{ consumer: "2026-11-28T08:32:39.400447665Z" }, false],
        // As 2.9 says it after a restart.
        [{ consumer: "2026-11-28T08:31:39.400753441Z" }, true]
      ] as const
      for (const [other, isKnown] of cases) {
        server.entry = before
        const known = owner(server, []).intake
        const record = new SettledRecord(server.bucket, "group.orders", { partition: 0, renewEpoch: Effect.succeed(1) })
        yield* record.begin({ ...subject, ...other }, known)
        assert.strictEqual(known.finished.has(1), isKnown)
      }
    })))

  it("refuses what is not in hand", () =>
    T.run(Effect.gen(function*() {
      const server = new Server()
      const { begin, intake } = owner(server, [1])
      yield* begin
      const record = { write: () => Effect.void }
      const [message] = Array.from(intake.held.values(), ({ message }) => message)
      const refused = yield* Effect.either(
        settle(record, intake, Effect.void, "orders", 0, [{ ...message!, offset: 9 }])
      )
      assert.include(Either.getOrThrow(Either.flip(refused)), { _tag: "SettlementFailed", isRetryable: false })
    })))
})
