import { Kafka, Nats } from "@effect-eventbus/brokers"
import type { Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import { describe, expect, it } from "vitest"
import { type Life, live, program } from "./lives.js"

const brokers = {
  kafka: Effect.gen(function*() {
    const { bootstrap } = yield* Kafka.make()
    const servers = bootstrap
    return { servers: servers.join(","), service: yield* KafkaTransport.make({ brokers: servers, partitions: 1 }) }
  }),
  nats: Effect.gen(function*() {
    const { servers } = yield* Nats.make()
    return { servers: servers.join(","), service: yield* NatsTransport.make({ servers }) }
  })
}

const bytes = (text: string) => new TextEncoder().encode(text)

const publish = (service: Transport.Service, topic: Transport.TopicSpec, texts: ReadonlyArray<string>) =>
  Effect.flatMap(
    service.publish(
      topic,
      texts.map((text, n) => ({
        id: undefined,
        aggregateId: text === "poison" ? "poisoned" : `a${n % 100}`,
        key: null,
        value: bytes(text),
        headers: {},
        timestamp: undefined
      })),
      { timeout: Duration.seconds(20) }
    ),
    (results) =>
      Effect.all(results.map((one) => Either.isRight(one) ? Effect.succeed(one.right) : Effect.fail(one.left)))
  )

const sayOf = (life: Life, number: number) =>
  `life ${number}: ${
    life.seconds.toFixed(1)
  } s, ${life.handled.length} handled, poison started ${life.poison.length} times, ${life.given.length} given up, ended by ${life.signal}`

/** Each takes some 4 seconds. */
const killedLives = Number(process.env["TEST_POISON_LIVES"] ?? 12)

const scenarios = (transport: "kafka" | "nats") => {
  it(
    "an event that aborts the process goes to the policy in the third life, and each life handles others",
    () =>
      Effect.runPromise(Effect.scoped(Effect.gen(function*() {
        const { servers, service } = yield* brokers[transport]
        const topic = { name: `poison-${process.pid}-${Date.now()}`, kind: "plain" as const, partitions: 1 }
        // It is stored behind more than may be unfinished at a time (1,000): others are handled before it begins.
        const texts = Array.from({ length: 2_000 }, (_, n) => n === 1_500 ? "poison" : `${n}`)
        yield* publish(service, topic, texts.slice(0, 1_500))
        yield* publish(service, topic, texts.slice(1_500))
        const file = yield* program
        const lives: Array<Life> = []
        const all = new Set<number>()
        for (let number = 1; number <= 3; number++) {
          const life = yield* live(file, [transport, servers, topic.name, "5000", "3"], {
            atMostMs: 90_000,
            until: ({ given, handled }) => {
              for (const offset of handled) all.add(offset)
              return all.size === 1_999 && given.length > 0
            },
            signal: "SIGTERM"
          })
          lives.push(life)
          console.log(`${transport}: ${sayOf(life, number)}`)
        }
        console.log(lives[1]!.log.concat(lives[2]!.log).join("\n"))
        console.log(lives[2]!.given.join("\n"))
        expect(lives.map(({ poison }) => poison.length)).toEqual([1, 1, 0])
        for (const { handled } of lives) expect(handled.length).toBeGreaterThan(0)
        expect(lives[2]!.given).toHaveLength(1)
        expect(all.size).toBe(1_999)
      }))),
    300_000
  )

  it(
    `kill -9 at random moments: ${killedLives} lives, and nobody is given up (TEST_POISON_LIVES)`,
    () =>
      Effect.runPromise(Effect.scoped(Effect.gen(function*() {
        const { servers, service } = yield* brokers[transport]
        const topic = { name: `killed-${process.pid}-${Date.now()}`, kind: "plain" as const, partitions: 1 }
        let published = 0
        const publishSome = Effect.suspend(() =>
          publish(service, topic, Array.from({ length: 10 }, () => `${published++}`))
        )
        yield* publishSome
        yield* Effect.forkScoped(
          Effect.repeat(publishSome, {
            schedule: Schedule.spaced("200 millis"),
            until: () => published >= 120 * killedLives
          })
        )
        const file = yield* program
        const all = new Set<number>()
        const given: Array<string> = []
        let struck = 0
        let withheld = 0
        let idle = 0
        const note = ({ given: gone, handled, log }: Life) => {
          for (const offset of handled) all.add(offset)
          if (handled.length === 0) idle++
          given.push(...gone)
          struck += log.filter((line) => line.includes("was in hand alone")).length
          withheld += log.filter((line) => line.includes("is not started")).length
        }
        for (let number = 1; number <= killedLives; number++) {
          const life = yield* live(file, [transport, servers, topic.name, "5000", "20"], {
            atMostMs: 300 + Math.random() * 4_000,
            until: () => false
          })
          note(life)
        }
        const killed = all.size
        const end = published
        const last = yield* live(file, [transport, servers, topic.name, "5000", "5"], {
          atMostMs: 120_000,
          until: ({ handled }) => {
            for (const offset of handled) all.add(offset)
            return all.size >= end
          },
          signal: "SIGTERM"
        })
        note(last)
        console.log(
          `${transport}: ${killedLives} lives, ${published} published, ${killed} handled by then, ${all.size} at the end, ${idle} lives handled nothing, ` +
            `${struck} struck, ${withheld} withheld, ${given.length} given up`
        )
        expect(given).toEqual([])
        expect(all.size).toBeGreaterThanOrEqual(end)
      }))),
    900_000
  )
}

describe("Kafka", () => scenarios("kafka"))
describe("NATS", () => scenarios("nats"))
