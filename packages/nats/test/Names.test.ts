import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc } from "effect"
import { Subject } from "../src/index.js"

describe("Subject", () => {
  it.prop("the names of streams and consumers lead back to topic and group", [
    fc.fullUnicodeString(),
    fc.fullUnicodeString()
  ], ([
    group,
    topic
  ]) => {
    assert.strictEqual(Subject.fromStream(Subject.toStream(topic)), topic)
    assert.match(Subject.toStream(topic), /^[A-Za-z0-9_=~-]*$/)
    const durable = Subject.toDurable(group, topic)
    if (Either.isRight(durable)) assert.deepStrictEqual(Subject.fromDurable(durable.right), { group, topic })
  })

  it("names stay readable", () => {
    assert.strictEqual(Subject.toStream("shop.orders_v2"), "shop~orders_v2")
    assert.deepStrictEqual(Subject.toDurable("billing", "shop.orders"), Either.right("billing@shop~orders"))
    assert.strictEqual(Subject.fromStream("ORDERS.x"), undefined)
    assert.strictEqual(Subject.fromDurable("foreign"), undefined)
  })

  it("what is no subject to publish to is refused", () => {
    for (const topic of ["", "a..b", ".a", "a.", "a b", "a\n", "a.*", "a.>", "$JS.API", "_INBOX.a", "x".repeat(300)]) {
      assert.isTrue(Either.isLeft(Subject.fromTopic(topic)), topic)
    }
    assert.isTrue(Either.isLeft(Subject.toDurable(" ", "a")))
  })
})
