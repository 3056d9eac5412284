/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { connect } from "node:net"
import { BrokerError } from "./BrokerError.js"

/**
 * A cluster as one of its brokers describes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Metadata {
  readonly clusterId: string | null
  readonly controllerId: number
  readonly brokers: ReadonlyArray<number>
}

const correlationId = 7

/** Metadata, version 2, for no topics. */
const request = (): Buffer => {
  const client = Buffer.from("eventbus-probe")
  const body = Buffer.alloc(4 + 2 + 2 + 4 + 2 + client.length + 4)
  let at = body.writeInt32BE(body.length - 4, 0)
  at = body.writeInt16BE(3, at)
  at = body.writeInt16BE(2, at)
  at = body.writeInt32BE(correlationId, at)
  at = body.writeInt16BE(client.length, at)
  at += client.copy(body, at)
  body.writeInt32BE(0, at)
  return body
}

const decode = (frame: Buffer): Metadata => {
  let at = 0
  const int32 = () => frame.readInt32BE((at += 4) - 4)
  const string = () => {
    const length = frame.readInt16BE((at += 2) - 2)
    return length < 0 ? null : frame.toString("utf8", at, at += length)
  }
  if (int32() !== correlationId) throw new Error("not the answer to our request")
  const brokers = Array.from({ length: int32() }, () => {
    const id = int32()
    string()
    int32()
    string()
    return id
  })
  return { brokers, clusterId: string(), controllerId: int32() }
}

/**
 * Asks the broker at a port (of loopback by default) for its cluster, over a plaintext listener.
 *
 * @since 0.1.0
 * @category probes
 */
export const metadata = (port: number, host = "127.0.0.1"): Effect.Effect<Metadata, BrokerError> =>
  Effect.async<Metadata, BrokerError>((resume) => {
    const fail = (detail: string, cause?: unknown) =>
      resume(new BrokerError({ broker: "kafka", reason: "NotReady", detail, cause }))
    const socket = connect(port, host, () => socket.write(request()))
    let received = Buffer.alloc(0)
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4 || received.length < 4 + received.readInt32BE(0)) return
      try {
        resume(Effect.succeed(decode(received.subarray(4))))
      } catch (cause) {
        fail("what answers isn't Kafka", cause)
      }
      socket.destroy()
    })
    socket.once("error", (cause) => fail(`port ${port} doesn't answer`, cause))
    socket.once("close", () => fail(`port ${port} closed the connection`))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutFail({
    duration: "2 seconds",
    onTimeout: () => new BrokerError({ broker: "kafka", reason: "NotReady", detail: `port ${port} is silent` })
  }))
