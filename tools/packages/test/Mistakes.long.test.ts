/** What the compiler says of a mistake in a subscription, as a user sees it: one short message that names what is wrong. */
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { expect, it } from "vitest"
import * as Consumer from "./Consumer.js"
import { given } from "./given.js"

const { project } = given()

const before = `
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { Data, Effect, Schema } from "effect"

class Placed extends Schema.TaggedClass<Placed>()("Placed", { total: Schema.Number }) {}
class OutOfStock extends Data.TaggedError("OutOfStock") {}
class Refused extends Data.TaggedError("Refused") {}
const Orders = Topic.envelope("orders", Placed)
const Clicks = Topic.plain("clicks")
const { deadLetter, drop, exhaustive, retry } = FailurePolicy
const onExhausted = deadLetter("orders.dead")
declare const ship: (order: Placed) => Effect.Effect<void, OutOfStock | Refused>
declare const store: (body: Uint8Array) => Effect.Effect<void, OutOfStock | Refused>
declare const bus: EventBus.Service
`

const mistakes: ReadonlyArray<readonly [mistake: string, code: string, message: RegExp]> = [
  ["a forgotten policy", `Orders.toLayer((order) => ship(order), {})`, /Property 'onExhausted' is missing/],
  ["a forgotten policy", `bus.subscribe(Orders, (order) => ship(order), { group: "a" })`, /Property 'onExhausted' is/],
  [
    "a forgotten policy of plain messages",
    `Clicks.toLayer(store, { semantics: "at-least-once" })`,
    /Property 'onExhausted' is missing/
  ],
  ["forgotten options", `bus.subscribe(Orders, (order) => ship(order))`, /Expected 3 arguments, but got 2/],
  [
    "a missing tag",
    `Orders.toLayer((order) => ship(order), { onExhausted, onError: exhaustive({ OutOfStock: retry }) })`,
    /Property 'Refused' is missing/
  ],
  [
    "a missing tag",
    `bus.subscribe(Orders, ship, { onExhausted, onError: exhaustive({ Refused: drop }) })`,
    /Property 'OutOfStock' is missing/
  ],
  [
    "a stale tag",
    `Orders.toLayer(ship, { onExhausted, onError: exhaustive({ OutOfStock: retry, Refused: drop, Old: drop }) })`,
    /'Old' does not exist/
  ],
  [
    "a stale tag",
    `bus.subscribe(Orders, ship, { onExhausted, onError: exhaustive({ OutOfStock: retry, Refused: drop, Old: drop }) })`,
    /'Old' does not exist/
  ],
  [
    "a misspelled option",
    `Orders.toLayer(ship, { onExhausted, concurency: 4 })`,
    /Did you mean to write 'concurrency'\?/
  ]
]

it("is told in one message of at most two lines", async () => {
  const folder = join(project, "mistakes")
  await mkdir(folder)
  await writeFile(join(folder, "mistakes.ts"), `${before}${mistakes.map(([, code]) => code).join("\n")}\n`)
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "ES2022", "--module", "NodeNext"]
  const error = await Consumer.run(
    folder,
    process.execPath,
    Consumer.tsc,
    ...options,
    "--pretty",
    "false",
    "mistakes.ts"
  )
    .then(() => new Error("it compiled"), (error: Error) => error)
  const messages = error.message.split(/^mistakes\.ts/m).slice(1).map((text) => text.trimEnd())

  const first = before.split("\n").length
  expect(messages.map((text) => Number(/^\((\d+),/.exec(text)?.[1]) - first)).toEqual(mistakes.map((_, i) => i))
  for (const [i, [mistake, , expected]] of mistakes.entries()) {
    const text = messages[i]!
    expect(text, mistake).toMatch(expected)
    expect(text.split("\n").length, text).toBeLessThanOrEqual(2)
    expect(text.length, text).toBeLessThan(400)
  }
}, 120_000)
