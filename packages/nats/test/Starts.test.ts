import type {} from "@effect-eventbus/brokers/vitestSetup"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import * as T from "./fixture.js"
import { relay } from "./relay.js"

const servers = inject("natsServers")

/** The requests of a subscription that begins, after its stream and consumer are there. */
const steps: ReadonlyArray<readonly [what: string, endpoint: RegExp, skipped: number]> = [
  ["finding the bucket", /^STREAM\.INFO\.KV_/, 0],
  ["announcing the instance", /^\$KV\..*\.member\./, 0],
  ["looking at the members", /^STREAM\.INFO\.KV_/, 1],
  ["looking at the partitions", /^STREAM\.MSG\.GET\.KV_/, 0],
  ["taking a partition", /^\$KV\..*\.partition\./, 0]
]

describe("A subscription that begins while the server does not answer", () => {
  it.each(steps)(
    "%s: it stands, says what it waits for, and reads when there are answers",
    (what, endpoint, skipped) =>
      T.run(Effect.gen(function*() {
        const topic = T.topic()
        yield* T.publish(yield* T.transport(servers), topic, T.messages(0, 10))
        let [seen, lost] = [0, 0]
        let isAway = false
        const options = yield* relay(servers, `starts-${what.replaceAll(" ", "-")}`, (asked) => {
          if (!isAway || !endpoint.test(asked) || seen++ < skipped) return "Served"
          lost++
          return "Lost"
        })
        const service = yield* T.transport(servers, {
          ...options,
          requestTimeout: "200 millis",
          leaseDuration: "2 seconds"
        })
        yield* T.scoped(service.subscribe(T.request(topic, { group: "other" }), new T.TestConsumer()))
        isAway = true
        const consumer = new T.TestConsumer()
        const subscribing = yield* Effect.fork(service.subscribe(T.request(topic), consumer))
        yield* T.waitUntil("it was not answered some times", () => lost >= 4)
        if (what === "finding the bucket") isAway = false
        const source = yield* subscribing
        if (isAway) {
          const [problem] = (yield* source.status!).problems
          assert.match(problem!.message, /(renewed|looked at).*Timeout/)
        }
        isAway = false
        yield* T.waitUntil("all came", () => consumer.taken.length === 10)
        assert.deepStrictEqual((yield* source.status!).problems, [])
      }))
  )
})
