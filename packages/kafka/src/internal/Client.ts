/**
 * Requests to a cluster: which broker has which address, one connection per
 * broker and role, and typed failures. A role is what a connection is for:
 * brokers answer the requests of a connection one after the other, so a
 * heartbeat must not queue behind a fetch, a join or a large publish.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { ConnectionState } from "../KafkaConnection.js"
import type { MetadataResponse } from "./clusterApis.js"
import type { Address } from "./Driver.js"
import { parseAddress } from "./Driver.js"
import { disconnected, failure, KafkaFailure } from "./Failure.js"
import type { ApiName, RequestOf, ResponseOf } from "./requests.js"
import type { Wire, WireOptions } from "./Wire.js"
import * as WireModule from "./Wire.js"

export interface Client {
  readonly addresses: ReadonlyArray<string>
  /** Asks one broker; `"any"` asks one after the other until one answers. */
  readonly call: <Name extends ApiName>(
    node: number | "any",
    role: string,
    name: Name,
    request: RequestOf<Name>,
    timeoutMs?: number
  ) => Effect.Effect<ResponseOf<Name>, KafkaFailure>
  /** Whether what is asked now goes out over a connection that is open. From memory. */
  readonly isOpen: (node: number, role: string) => boolean
  /** Connects to a broker, so that what is then sent is not kept waiting. */
  readonly connect: (node: number | "any", role: string) => Effect.Effect<void, KafkaFailure>
  /** Of these topics (at least one) and of the brokers. Nothing is created by asking. */
  readonly metadata: (topics: ReadonlyArray<string>) => Effect.Effect<MetadataResponse, KafkaFailure>
  /** The broker that coordinates a group. */
  readonly coordinator: (
    group: string,
    options: { readonly role: string; readonly timeoutMs: number }
  ) => Effect.Effect<number, KafkaFailure>
  /** Ends the connections of a role, within a second. */
  readonly release: (role: string) => Effect.Effect<void>
  /** Whether a connection to some broker is open. From memory. */
  readonly isConnected: () => boolean
}

export interface ClientOptions extends Omit<WireOptions, "log" | "opening"> {
  readonly brokers: ReadonlyArray<string>
  /** Called at each change of it. Synchronous. */
  readonly onState?: ((state: ConnectionState) => void) | undefined
}

const CLOSE_DEADLINE = Duration.seconds(1)

/** A client whose connections end with the scope. It connects when it is first asked for something. */
export const make = (options: ClientOptions): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function*() {
    const runtime = yield* Effect.runtime<never>()
    const bootstrap = options.brokers.map(parseAddress)
    const nodes = new Map<number, Address>()
    const links = new Map<string, Slot>()
    /** Those that did not connect or answer when they were last asked. */
    const doubtful = new Set<string>()
    let isClosed = false

    const wire: WireOptions = {
      ...options,
      opening: new Set(),
      log: ({ details, message }) =>
        Effect.runSync(
          Effect.logDebug(message).pipe(
            Effect.annotateLogs({ module: options.driver.name, ...logged(details) }),
            Effect.provide(runtime)
          )
        )
    }

    const linkTo = async (address: Address, role: string): Promise<Wire> => {
      if (isClosed) throw disconnected("The client is closed", false)
      const key = keyOf(address, role)
      const known = links.get(key)
      if (known !== undefined) {
        const open = await known.opening.catch(() => undefined)
        if (open?.isOpen()) return open
        if (links.get(key) !== known) return linkTo(address, role)
        await open?.dispose()
        if (links.get(key) !== known) return linkTo(address, role)
      }
      const slot: Slot = { opening: WireModule.open(address, wire), link: undefined }
      links.set(key, slot)
      slot.opening.then((link) => {
        slot.link = link
      }, () => {
        if (links.get(key) === slot) links.delete(key)
      })
      return slot.opening
    }

    const openLink = (address: Address, role: string): Wire | undefined => {
      const known = links.get(keyOf(address, role))?.link
      return known?.isOpen() === true ? known : undefined
    }

    const link = (address: Address, role: string) =>
      Effect.tryPromise({ try: () => linkTo(address, role), catch: (cause) => failureOf(cause, false) }).pipe(
        Effect.tapBoth({ onFailure: (error) => noteDown(address, error), onSuccess: () => noteUp(address) })
      )

    /** An outage is worth one line when it begins and one when it ends, however often it is noticed. */
    const down = new Set<string>()
    const up = new Set<string>()
    const report = () =>
      options.onState?.({
        _tag: down.size === 0 ? "Connected" : up.size === 0 ? "Disconnected" : "Degraded",
        unreachable: [...down]
      })
    const noteDown = ({ host, port }: Address, error: KafkaFailure) =>
      Effect.suspend(() => {
        const broker = `${host}:${port}`
        if (isClosed || down.has(broker)) return Effect.void
        down.add(broker)
        up.delete(broker)
        report()
        return Effect.logWarning(`A broker can't be reached: ${error.message}`).pipe(Effect.annotateLogs({ broker }))
      })
    /** What the cluster does not have any more is not missing. */
    const noteGone = Effect.suspend(() => {
      const known = new Set(Array.from(nodes.values(), addressOf))
      const gone = [...down].filter((broker) => !known.has(broker))
      if (gone.length === 0) return Effect.void
      for (const broker of gone) down.delete(broker)
      report()
      return Effect.logInfo("Brokers that could not be reached are not part of the cluster any more").pipe(
        Effect.annotateLogs({ brokers: gone.join(",") })
      )
    })
    const noteUp = ({ host, port }: Address) => {
      const broker = `${host}:${port}`
      up.add(broker)
      if (!down.delete(broker)) return Effect.void
      report()
      return Effect.logInfo("A broker is reachable again").pipe(Effect.annotateLogs({ broker }))
    }

    const send = <Name extends ApiName>(
      address: Address,
      role: string,
      name: Name,
      request: RequestOf<Name>,
      timeoutMs?: number
    ) =>
      Effect.suspend(() => {
        const over = (link: Wire) =>
          Effect.tryPromise({
            try: () => link.send(name, request, timeoutMs),
            catch: (cause) => failureOf(cause, true)
          })
        const open = down.has(addressOf(address)) ? undefined : openLink(address, role)
        return Effect.mapBoth(open === undefined ? Effect.flatMap(link(address, role), over) : over(open), {
          onFailure: (error) => {
            if (error.isUnreachable) doubtful.add(addressOf(address))
            return error
          },
          onSuccess: (answer) => {
            if (doubtful.size > 0) doubtful.delete(addressOf(address))
            return answer
          }
        })
      })

    /** Those that are connected first, those that did not answer when they were last asked at the end. */
    const candidates = (role: string): ReadonlyArray<Address> => {
      const all = new Map([...nodes.values(), ...bootstrap].map((address) => [addressOf(address), address]))
      const rank = (broker: string): number =>
        doubtful.has(broker) ? 2 : links.get(`${broker}/${role}`)?.link?.isOpen() === true ? 0 : 1
      return [...all].sort(([a], [b]) => rank(a) - rank(b)).map(([, address]) => address)
    }

    const at = <A>(
      node: number | "any",
      role: string,
      ask: (address: Address) => Effect.Effect<A, KafkaFailure>
    ): Effect.Effect<A, KafkaFailure> =>
      Effect.suspend(() => {
        if (node === "any") {
          const [first, ...others] = candidates(role)
          return others.reduce(
            (asked, address) => Effect.catchIf(asked, (error) => error.isUnreachable, () => ask(address)),
            ask(first!)
          )
        }
        const address = nodes.get(node)
        return address === undefined
          ? Effect.fail(disconnected(`Broker ${node} is not known`, false))
          : ask(address)
      })

    const call: Client["call"] = (node, role, name, request, timeoutMs) =>
      at(node, role, (address) => send(address, role, name, request, timeoutMs))

    const metadata: Client["metadata"] = (topics) =>
      call("any", "control", "Metadata", { topics }).pipe(
        Effect.tap((found) =>
          Effect.sync(() => {
            nodes.clear()
            for (const { host, node, port } of found.brokers) nodes.set(node, { host, port })
          })
        ),
        Effect.tap(noteGone)
      )

    const coordinator: Client["coordinator"] = (group, { role, timeoutMs }) =>
      call("any", role, "FindCoordinator", { group }, timeoutMs).pipe(
        Effect.flatMap(({ errorCode, host, node, port }) =>
          errorCode !== 0
            ? Effect.fail(failure("FindCoordinator", errorCode))
            : Effect.sync(() => {
              nodes.set(node, { host, port })
              return node
            })
        )
      )

    const disposeAll = (keys: ReadonlyArray<string>) =>
      Effect.forEach(keys, (key) => {
        const slot = links.get(key)
        links.delete(key)
        const end = slot?.opening.then((link) => link.dispose(), () => undefined)
        // One that is not open yet ends when it is, or does not open: nobody waits for that.
        return slot?.link === undefined ? Effect.void : Effect.promise(() => end ?? Promise.resolve())
      }, { concurrency: "unbounded", discard: true }).pipe(
        Effect.interruptible,
        Effect.timeoutOption(CLOSE_DEADLINE),
        Effect.asVoid
      )

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        isClosed = true
        return Effect.zipRight(
          disposeAll([...links.keys()]),
          Effect.sync(() => {
            // Those that are still being connected.
            for (const controller of wire.opening) controller.abort()
          })
        )
      })
    )

    return {
      addresses: options.brokers,
      call,
      isOpen: (node, role) => {
        const address = nodes.get(node)
        return address !== undefined && openLink(address, role) !== undefined
      },
      connect: (node, role) => at(node, role, (address) => Effect.asVoid(link(address, role))),
      metadata,
      coordinator,
      isConnected: () => {
        for (const { link } of links.values()) if (link?.isOpen() === true) return true
        return false
      },
      release: (role) => Effect.suspend(() => disposeAll([...links.keys()].filter((key) => key.endsWith(`/${role}`))))
    }
  })

/** A connection, from the moment it is asked for. */
interface Slot {
  readonly opening: Promise<Wire>
  link: Wire | undefined
}

const keyOf = (address: Address, role: string): string => `${addressOf(address)}/${role}`

const addressOf = ({ host, port }: Address): string => `${host}:${port}`

/** For what is tried again while a broker is away: soon at first, then every second. */
export const reconnect = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("1 second")),
  Schedule.jittered
)

/** What is none is a mistake of ours. */
const failureOf = (cause: unknown, sent: boolean): KafkaFailure =>
  cause instanceof KafkaFailure ? cause : new KafkaFailure({ type: "Client", sent, cause })

const logged = (details: Record<string, unknown>): Record<string, unknown> => {
  const { broker, error } = details
  return { ...(broker === undefined ? {} : { broker }), ...(error === undefined ? {} : { error }) }
}
