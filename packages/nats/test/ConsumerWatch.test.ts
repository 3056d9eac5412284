import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Api, ConsumerConfig, ConsumerInfo } from "../src/internal/Api.js"
import * as ConsumerWatch from "../src/internal/ConsumerWatch.js"
import type { Broken } from "../src/internal/ReaderState.js"
import { codes, NatsRequestFailed } from "../src/NatsErrors.js"
import * as T from "./fixture.js"

const wanted: ConsumerConfig = {
  durable_name: "group",
  ack_policy: "explicit",
  ack_wait: 30e9,
  replay_policy: "instant",
  max_deliver: -1,
  max_ack_pending: 2_000,
  filter_subject: "orders"
}

/** A consumer as the server has it, looked at often. */
const scene = (found: ConsumerConfig = wanted) =>
  Effect.gen(function*() {
    const broken: Array<Broken> = []
    const told: Array<readonly [left: number, expected: number]> = []
    const intake = {
      next: undefined as number | undefined,
      held: { size: 1_000 } as never,
      expected: 1,
      tellLeft: (left: number, expected: number) => void told.push([left, expected])
    }
    const server = { config: found, isThere: true, paused: false, looks: 0, onLook: () => {} }
    const api = {
      consumerInfo: (subject: string) =>
        Effect.suspend(() => {
          server.looks++
          server.onLook()
          return server.isThere
            ? Effect.succeed({ config: server.config, paused: server.paused, num_pending: 7 } as ConsumerInfo)
            : new NatsRequestFailed({
              subject,
              reason: "Api",
              error: { code: 404, err_code: codes.consumerNotFound, description: "consumer not found" }
            })
        })
    } as unknown as Api
    const stream = {
      name: "orders",
      created: "1",
      last: 0,
      replicas: 1,
      subjects: [],
      lastAt: 0,
      forgets: false,
      duplicateWindow: 0
    }
    yield* Effect.forkScoped(
      ConsumerWatch.run({
        api,
        stream,
        wanted,
        found,
        intake,
        interval: 20,
        onBroken: (reason) => broken.push(reason),
        onPaused: () => {}
      })
    )
    return { broken, intake, server, told }
  })

describe("Looking at the consumer that is read from", () => {
  it("tells how much is left, as of before it was asked", () =>
    T.run(Effect.gen(function*() {
      const { intake, server, told } = yield* scene()
      server.onLook = () => void intake.expected++
      yield* T.waitUntil("it was looked at twice", () => told.length >= 2)
      assert.deepStrictEqual(told.slice(0, 2), [[7, 1], [7, 2]])
    })))

  it("says that nothing is taken any more, once, and that it goes on", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const { broken, intake } = yield* scene()
        const count = (text: string) => lines.filter((line) => line.includes(text)).length
        // As long as something is taken nothing is said.
        let looks = 0
        Object.defineProperty(intake, "next", { configurable: true, get: () => ++looks })
        yield* T.waitUntil("it was looked at", () => looks > 5)
        assert.strictEqual(count("Nothing more is read"), 0)
        Object.defineProperty(intake, "next", { configurable: true, writable: true, value: 19 })
        yield* T.waitUntil("it is said", () => count("Nothing more is read") === 1)
        assert.isTrue(lines.some((line) => line.includes("next=19") && line.includes("inHand=1000")))
        yield* Effect.sleep(100)
        intake.next = undefined
        yield* T.waitUntil("its end is said", () => count("takes messages again") === 1)
        assert.strictEqual(count("Nothing more is read"), 1)
        assert.deepStrictEqual(broken, [])
      })
    ))

  it("finds out that it was changed, or deleted; a pause is only said", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const { broken, server } = yield* scene()
        server.paused = true
        yield* T.waitUntil("it is said", () => lines.some((line) => line.includes("paused the consumer")))
        server.paused = false
        yield* T.waitUntil("its end is said", () => lines.some((line) => line.includes("not paused any more")))
        assert.deepStrictEqual(broken, [])
        server.config = { ...wanted, max_ack_pending: 1 }
        yield* T.waitUntil("it is found out", () => broken.length > 0)
        assert.deepInclude(broken, {
          reason: "ConsumerChanged",
          detail: "it has max_ack_pending 1 instead of 2000"
        })
        server.isThere = false
        yield* T.waitUntil("it is found out", () => broken.some(({ reason }) => reason === "ConsumerDeleted"))
      })
    ))

  it("goes on with what the server has imposed from the beginning, and finds out what is changed besides", () =>
    T.runRemembering(() =>
      Effect.gen(function*() {
        const imposed = { ...wanted, max_batch: 100, inactive_threshold: 3_600e9 }
        const { broken, server } = yield* scene(imposed)
        yield* T.waitUntil("it was looked at", () => server.looks > 5)
        assert.deepStrictEqual(broken, [])
        server.config = { ...imposed, inactive_threshold: 60e9 }
        yield* T.waitUntil("it is found out", () => broken.length > 0)
        assert.include((broken[0] as { readonly detail: string }).detail, "has inactive_threshold 60000000000")
      })
    ))

  it("does not go on without bodies, also where they were missing from the beginning", () =>
    T.runRemembering(() =>
      Effect.gen(function*() {
        const { broken } = yield* scene({ ...wanted, headers_only: true })
        yield* T.waitUntil("it is found out", () => broken.length > 0)
      })
    ))
})
