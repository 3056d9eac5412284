/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { BrokerError } from "./BrokerError.js"

/**
 * The addresses that a variable names, unless the options ask for servers of our own.
 *
 * @since 0.1.0
 * @category constructors
 */
export const addresses = (variable: string, options: object): ReadonlyArray<string> | undefined => {
  const named = (process.env[variable] ?? "").split(",").map((part) => part.trim()).filter((part) => part !== "")
  const special = Object.values(options).some((value) => value !== undefined && value !== false)
  return named.length === 0 || special ? undefined : named
}

/**
 * Fails when none of the addresses answers, so that a wrong variable is seen at once.
 *
 * @since 0.1.0
 * @category probes
 */
export const reachable = (
  broker: "kafka" | "nats",
  servers: ReadonlyArray<string>,
  probe: (port: number, host: string) => Effect.Effect<unknown, BrokerError>
): Effect.Effect<void, BrokerError> =>
  Effect.asVoid(Effect.firstSuccessOf(servers.map((server) => {
    const url = new URL(server.includes("://") ? server : `tcp://${server}`)
    return probe(Number(url.port), url.hostname.replace(/^\[|\]$/g, ""))
  }))).pipe(Effect.mapError((error) =>
    new BrokerError({
      broker,
      reason: "NotReady",
      detail: `no server answers at ${servers.join(", ")} (${error.detail}).`,
      advice: "These addresses come from the environment; unset the variable to have brokers brought up.",
      cause: error
    })
  ))
