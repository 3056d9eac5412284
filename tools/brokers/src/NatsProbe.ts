/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { connect } from "node:net"
import { BrokerError, system } from "./BrokerError.js"

/**
 * What a server says of itself when a client connects.
 *
 * @since 0.1.0
 * @category models
 */
export interface Info {
  readonly server_name: string
  readonly version: string
  readonly jetstream?: boolean
}

const notReady = (detail: string, cause?: unknown) =>
  new BrokerError({ broker: "nats", reason: "NotReady", detail, cause })

/**
 * The INFO line of the server at a loopback port.
 *
 * @since 0.1.0
 * @category probes
 */
export const info = (port: number, host = "127.0.0.1"): Effect.Effect<Info, BrokerError> =>
  Effect.async<Info, BrokerError>((resume) => {
    const socket = connect(port, host)
    let received = ""
    socket.on("data", (chunk) => {
      received += chunk.toString("utf8")
      const end = received.indexOf("\r\n")
      if (end < 0) return
      resume(Effect.try({
        try: () => JSON.parse(received.slice("INFO ".length, end)) as Info,
        catch: (cause) => notReady("what answers isn't NATS", cause)
      }))
      socket.destroy()
    })
    socket.once("error", (cause) => resume(notReady(`port ${port} doesn't answer`, cause)))
    socket.once("close", () => resume(notReady(`port ${port} closed the connection`)))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutFail({ duration: "2 seconds", onTimeout: () => notReady(`port ${port} is silent`) }))

const monitored = (port: number, path: string) =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal })
      return { ok: response.ok, body: (await response.json()) as unknown }
    },
    catch: system("nats", `its monitor's ${path} doesn't answer`)
  }).pipe(Effect.timeoutFail({ duration: "2 seconds", onTimeout: () => notReady(`${path} is silent`) }))

/**
 * Succeeds when JetStream works: the server calls itself healthy and, in a cluster of several, all of them have joined
 * and elected a leader.
 *
 * @since 0.1.0
 * @category probes
 */
export const healthy = (monitor: number, nodes: number): Effect.Effect<void, BrokerError> =>
  Effect.gen(function*() {
    const health = yield* monitored(monitor, "/healthz")
    if (!health.ok) return yield* notReady(`not healthy: ${JSON.stringify(health.body)}`)
    if (nodes === 1) return
    const { body } = yield* monitored(monitor, "/jsz")
    const meta = (body as { meta_cluster?: { leader?: string; cluster_size?: number } }).meta_cluster
    if (!meta?.leader || meta.cluster_size !== nodes) return yield* notReady("no JetStream leader yet")
  })
