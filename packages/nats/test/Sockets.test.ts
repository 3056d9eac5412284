import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { NatsTransport } from "../src/index.js"
import * as Client from "../src/internal/Client.js"
import * as T from "./fixture.js"

interface Relay {
  readonly address: string
  readonly open: Set<Socket>
  readonly fallSilent: () => void
  readonly close: () => void
}

/** In front of a server. Once it is silent, it takes connections and answers nothing. */
const relay = (port: number) =>
  Effect.acquireRelease(
    Effect.async<Relay>((resume) => {
      const open = new Set<Socket>()
      let isSilent = false
      const listener = createServer((socket) => {
        open.add(socket)
        socket.on("error", () => {}).on("close", () => open.delete(socket))
        if (isSilent) return void socket.resume()
        const upstream = connect(port, "127.0.0.1").on("error", () => {})
        socket.pipe(upstream).pipe(socket)
        socket.on("close", () => upstream.destroy())
      })
      const fallSilent = () => {
        isSilent = true
        for (const socket of open) socket.destroy()
      }
      listener.listen(0, "127.0.0.1", () => {
        const address = `127.0.0.1:${(listener.address() as AddressInfo).port}`
        resume(Effect.succeed({ address, open, fallSilent, close: () => listener.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

for (const version of T.versions) {
  describe(`A server that takes connections and says nothing, on ${version}`, () => {
    it("is asked over one socket at a time, and none is left when the transport is closed meanwhile", () =>
      T.run(Effect.gen(function*() {
        const server = yield* T.server(version)
        const { address, fallSilent, open } = yield* relay(Number(server.servers[0]!.split(":").at(-1)))
        const scope = yield* Scope.make()
        const service = yield* Scope.extend(
          NatsTransport.make({
            servers: [address],
            connectTimeout: "200 millis",
            reconnectWait: "20 millis",
            closeTimeout: "300 millis"
          }),
          scope
        )
        yield* T.publish(service, T.topic("plain"), [T.message(0)])
        let seen = 0
        let most = 0
        fallSilent()
        for (const before = performance.now(); performance.now() - before < 1_500;) {
          yield* Effect.sleep("5 millis")
          seen += open.size
          most = Math.max(most, open.size)
        }
        assert.isAbove(seen, 0, "it tries to connect again")
        assert.isAtMost(most, 2)
        yield* T.waitUntil("an attempt is under way", () => open.size > 0, 5_000)
        yield* Scope.close(scope, Exit.void)
        yield* T.waitUntil("no socket is left", () => open.size === 0, 5_000)
      })))

    it("and none is opened by a client that was closed while it waited to try again", () =>
      T.run(Effect.gen(function*() {
        const server = yield* T.server(version)
        const proxy = yield* TcpProxy.make({ port: Number(server.servers[0]!.split(":").at(-1)) })
        const scope = yield* Scope.make()
        const service = yield* Scope.extend(NatsTransport.make({ servers: [proxy.address] }), scope)
        yield* T.publish(service, T.topic("plain"), [T.message(0)])
        yield* proxy.refuse
        yield* proxy.cut
        yield* Effect.sleep("200 millis")
        yield* proxy.accept
        yield* Scope.close(scope, Exit.void)
        // Longer than it waits between two attempts.
        yield* Effect.sleep("1500 millis")
        assert.strictEqual(yield* proxy.connections, 0)
      })))

    it("and a client whose draining ended because its connection broke is not taken for closed", () =>
      T.run(Effect.gen(function*() {
        const server = yield* T.server(version)
        const proxy = yield* TcpProxy.make({ port: Number(server.servers[0]!.split(":").at(-1)) })
        const client = yield* Effect.promise(() => Client.connect({ servers: [proxy.address] }))
        client.subscribe("some.subject", () => {})
        yield* proxy.blackhole
        const draining = client.drain()
        yield* proxy.refuse
        yield* proxy.cut
        assert.isFalse(yield* Effect.promise(() => draining))
        yield* Effect.promise(() => client.close())
        assert.isUndefined(yield* Effect.promise(() => client.closed()))
      })))
  })
}
