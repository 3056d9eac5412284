/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { type BrokerError, system } from "./BrokerError.js"

/**
 * A loopback proxy in front of a server, for what happens to networks.
 *
 * @since 0.1.0
 * @category models
 */
export interface TcpProxy {
  readonly port: number
  /** host:port for clients. */
  readonly address: string
  /** How many client connections are open now. */
  readonly connections: Effect.Effect<number>
  /** How many bytes clients have sent so far, whether or not they have been carried on. */
  readonly received: Effect.Effect<number>
  /** Resets every live connection; new ones are served. */
  readonly cut: Effect.Effect<void>
  /** Resets each new connection at once, until `accept`. */
  readonly refuse: Effect.Effect<void>
  readonly accept: Effect.Effect<void>
  /** Holds what is sent, in either direction, for so many milliseconds; 0 ends it. Applies to live connections. */
  readonly delay: (millis: number) => Effect.Effect<void>
  /** Live and new connections stay open and carry nothing, in either direction, until `flow`. */
  readonly blackhole: Effect.Effect<void>
  /** What live connections send is held, in either direction, until `flow`, also when the client has gone meanwhile; new ones are served. */
  readonly freeze: Effect.Effect<void>
  /** Ends `blackhole` and `freeze`; what was held goes on. */
  readonly flow: Effect.Effect<void>
  /** What the server sends is given to this before it is carried on, which may change its bytes in place; `undefined` ends it. */
  readonly alter: (change: ((chunk: Buffer) => void) | undefined) => Effect.Effect<void>
  /** Ends our side towards the clients: they read an end, and can still write. */
  readonly halfClose: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Target {
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  readonly port: number
}

interface Weather {
  refusing: boolean
  held: boolean
  delay: number
}

/**
 * Carries bytes one way, in order, each held while the weather says so. The source is paused while bytes wait, so a
 * blackhole fills the sender's buffers as a real one does.
 */
class Pump {
  private readonly waiting: Array<{ readonly chunk: Buffer | null; readonly due: number }> = []
  private timer: NodeJS.Timeout | undefined

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    private readonly weather: Weather,
    alter: (chunk: Buffer) => void = () => {}
  ) {
    from.on("data", (chunk: Buffer) => {
      alter(chunk)
      this.push(chunk)
    })
    from.on("end", () => this.push(null))
    to.on("drain", () => this.run())
  }

  stop() {
    clearTimeout(this.timer)
    this.waiting.length = 0
  }

  run() {
    clearTimeout(this.timer)
    while (this.waiting.length > 0 && !this.weather.held && !this.to.writableNeedDrain) {
      const next = this.waiting[0]!
      const wait = next.due - performance.now()
      if (wait > 0) {
        this.timer = setTimeout(() => this.run(), wait)
        break
      }
      this.waiting.shift()
      if (next.chunk === null) this.to.end()
      else if (this.to.writable) this.to.write(next.chunk)
    }
    if (this.waiting.length > 64 || this.weather.held) this.from.pause()
    else this.from.resume()
  }

  private push(chunk: Buffer | null) {
    this.waiting.push({ chunk, due: performance.now() + this.weather.delay })
    this.run()
  }
}

interface Link {
  readonly client: Socket
  readonly server: Socket
  /** Everybody's weather, save what is its own. */
  readonly weather: Partial<Weather>
  readonly pumps: ReadonlyArray<Pump>
}

const reset = ({ client, pumps, server }: Link) => {
  pumps.forEach((pump) => pump.stop())
  client.resetAndDestroy()
  server.resetAndDestroy()
}

/**
 * A proxy on a free loopback port; the scope's end closes it and its connections.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (target: Target): Effect.Effect<TcpProxy, BrokerError, Scope.Scope> =>
  Effect.gen(function*() {
    const weather: Weather = { refusing: false, held: false, delay: 0 }
    let received = 0
    let alter: ((chunk: Buffer) => void) | undefined
    const links = new Set<Link>()

    const serve = (client: Socket) => {
      // Each socket's error is followed by its close, which is what ends the link.
      client.on("error", () => {})
      if (weather.refusing) {
        client.resetAndDestroy()
        return
      }
      const server = connect({ port: target.port, host: target.host ?? "127.0.0.1", allowHalfOpen: true })
      server.on("error", () => {})
      const own: Weather = Object.create(weather)
      const link: Link = {
        client,
        server,
        weather: own,
        pumps: [new Pump(client, server, own), new Pump(server, client, own, (chunk) => alter?.(chunk))]
      }
      client.on("data", (chunk: Buffer) => {
        received += chunk.length
      })
      links.add(link)
      const closed = (gone: Socket, other: Socket) => {
        if (other.closed) links.delete(link)
        // After an end in order the other side may still have bytes to come; anything else is a reset.
        else if (gone.errored !== null || !gone.readableEnded) reset(link)
      }
      client.once("close", () => closed(client, server))
      server.once("close", () => closed(server, client))
      client.setNoDelay(true)
      server.setNoDelay(true)
      link.pumps.forEach((pump) => pump.run())
    }

    const cut = Effect.sync(() => [...links].forEach(reset))

    const change = (f: (weather: Weather) => void) =>
      Effect.sync(() => {
        f(weather)
        links.forEach((link) => link.pumps.forEach((pump) => pump.run()))
      })

    const listening = yield* Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>, BrokerError>((resume) => {
        const server = createServer({ allowHalfOpen: true }, serve)
        server.once("error", (cause) => resume(Effect.fail(system("proxy", "can't listen")(cause))))
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          Effect.runSync(cut)
        })
    )
    const { port } = listening.address() as AddressInfo
    return {
      port,
      address: `127.0.0.1:${port}`,
      connections: Effect.sync(() => links.size),
      received: Effect.sync(() => received),
      cut,
      refuse: change((weather) => weather.refusing = true),
      accept: change((weather) => weather.refusing = false),
      delay: (millis) => change((weather) => weather.delay = millis),
      blackhole: change((weather) => weather.held = true),
      freeze: Effect.sync(() => {
        for (const link of links) {
          link.weather.held = true
          link.pumps.forEach((pump) => pump.run())
        }
      }),
      flow: change((weather) => {
        weather.held = false
        links.forEach((link) => delete link.weather.held)
      }),
      alter: (change) =>
        Effect.sync(() => {
          alter = change
        }),
      halfClose: Effect.sync(() => links.forEach(({ client }) => client.end()))
    }
  })
