/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { createServer } from "node:net"
import { BrokerError } from "./BrokerError.js"

/**
 * Below the ephemeral range of Linux and macOS: no outgoing connection takes the port of a broker that is down for a
 * moment.
 */
const lowest = 12_000
const highest = 32_000
const given = new Set<number>()

const isFree = (port: number) =>
  Effect.async<boolean>((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

const next: Effect.Effect<number, BrokerError> = Effect.gen(function*() {
  for (let tries = 0; tries < 200; tries++) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (given.has(port)) continue
    given.add(port)
    if (yield* isFree(port)) return port
  }
  return yield* new BrokerError({ broker: "ports", reason: "PortInUse", detail: "no free loopback port was found." })
})

/**
 * Free loopback ports; this process never gives out the same one twice.
 *
 * @since 0.1.0
 * @category constructors
 */
export const take = (count: number): Effect.Effect<ReadonlyArray<number>, BrokerError> =>
  Effect.all(Array.from({ length: count }, () => next))
