import * as Docker from "@effect-eventbus/brokers/Docker"
import * as Ports from "@effect-eventbus/brokers/Ports"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { join } from "node:path"
import * as T from "./fixture.js"

/** Two servers with a JetStream domain each; the second one is a leaf node of the first. */
const hubAndLeaf = (version: "2.15" | "2.9") =>
  Effect.gen(function*() {
    const [port] = yield* Ports.take(1)
    const folder = yield* T.folder
    const domain = (name: string) => `jetstream { store_dir: "${join(folder, name)}", domain: ${name} }`
    const hub = yield* T.server(version, `${domain("hub")}\nleafnodes { listen: "127.0.0.1:${port}" }`)
    const leaf = yield* T.server(
      version,
      `${domain("leaf")}\nleafnodes { remotes: [{ url: "nats://127.0.0.1:${port}" }] }`
    )
    return { hub: hub.servers, leaf: leaf.servers }
  })

describe.each(T.versions)("A JetStream domain behind a leaf node on %s", (version) => {
  it("has streams and leases: an instance at the leaf and one at the hub own a partition one after the other", (test) =>
    T.run(Effect.gen(function*() {
      // There the port for leaf nodes is within a container.
      if (yield* Docker.available) return test.skip()
      const { hub, leaf } = yield* hubAndLeaf(version)
      const topic = T.topic()
      const first = new T.TestConsumer()
      // The servers may not have found each other yet.
      const far = yield* T.transport(leaf, { domain: "hub", connectAttempts: 6 })
      const one = yield* T.scoped(far.subscribe(T.request(topic), first))
      const near = yield* T.transport(hub)
      const second = new T.TestConsumer()
      yield* near.subscribe(T.request(topic), second)
      yield* T.publish(far, topic, T.messages(0, 50))
      yield* T.waitUntil("the first has them", () => first.taken.length === 50)
      assert.lengthOf(second.assignments, 0)
      yield* one.close
      yield* T.publish(far, topic, T.messages(50, 100))
      yield* T.waitUntil("the second has the rest", () => second.taken.length === 50)
      T.assertNumbers(second.numbers, T.range(50, 100))
      assert.isAbove(second.assignment.epoch, first.assignment.epoch)
      const nc = yield* T.client(leaf)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      assert.lengthOf(yield* Effect.promise(() => jsm.streams.list().next()), 0)
    })))
})
