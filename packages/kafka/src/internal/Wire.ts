/**
 * A link to a broker that speaks our requests: which versions of them it knows, by
 * when it has to answer, and for how long it wants to be left alone.
 */
import { isIP } from "node:net"
import type { ConnectionOptions } from "node:tls"
import type { Answer, Api } from "./Api.js"
import type { Address, Driver, Link, LinkOptions } from "./Driver.js"
import { disconnected, failure, KafkaFailure } from "./Failure.js"
import { Reader } from "./Reader.js"
import type { ApiName, RequestOf, ResponseOf } from "./requests.js"
import { requests } from "./requests.js"

export interface WireOptions extends Omit<LinkOptions, "tls"> {
  readonly driver: Driver
  /** Asked for each link: certificates are renewed while the process runs. */
  readonly tls: (() => Promise<ConnectionOptions>) | undefined
  /** How long connecting may take: until the broker has said what it speaks, and who we are has been accepted. */
  readonly connectionTimeoutMs: number
  readonly requestTimeoutMs: number
  /** The links that are being opened, for whoever has to end them all. */
  readonly opening: Set<AbortController>
}

/** A request that times out ends its link: what comes late must not meet what comes next. */
export interface Wire {
  readonly isOpen: () => boolean
  readonly send: <Name extends ApiName>(
    name: Name,
    request: RequestOf<Name>,
    timeoutMs?: number
  ) => Promise<ResponseOf<Name>>
  readonly dispose: () => Promise<void>
}

/** Connects, authenticates, and agrees on the versions of the requests. */
export const open = async (address: Address, options: WireOptions): Promise<Wire> => {
  const { sasl } = options
  try {
    return await openOnce(address, options)
  } catch (error) {
    const isRefused = error instanceof KafkaFailure && error.type === "Authentication"
    if (!isRefused || sasl?.mechanism !== "oauthbearer") throw error
    // A token can end before its time: another one may be accepted.
    sasl.renew()
    return openOnce(address, options)
  }
}

const openOnce = async (address: Address, options: WireOptions): Promise<Wire> => {
  const { connectionTimeoutMs, driver, opening } = options
  const controller = new AbortController()
  let link: Link | undefined
  const ready = async () => {
    const tls = options.tls === undefined ? undefined : { ...serverOf(address), ...await certificates(options.tls) }
    link = await driver.open(address, { ...options, tls }, controller.signal)
    if (controller.signal.aborted) throw disconnected("It was given up", false)
    return new Ranges(await askVersions(link))
  }
  opening.add(controller)
  try {
    const ranges = await within(
      aborted(ready(), controller.signal),
      connectionTimeoutMs,
      () => disconnected(`The broker was not ready within ${connectionTimeoutMs} ms`, false)
    )
    return make(link!, ranges, options)
  } catch (error) {
    controller.abort()
    await link?.dispose()
    throw error
  } finally {
    opening.delete(controller)
  }
}

const serverOf = ({ host }: Address): ConnectionOptions => isIP(host) === 0 ? { servername: host } : {}

const certificates = (tls: () => Promise<ConnectionOptions>): Promise<ConnectionOptions> =>
  tls().catch((cause) => Promise.reject(disconnected(cause, false)))

/** Whoever gives up does not wait for what is given up. */
const aborted = <A>(promise: Promise<A>, signal: AbortSignal): Promise<A> =>
  new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(disconnected("It was given up", false)), { once: true })
    promise.then(resolve, reject)
  })

const make = (link: Link, ranges: Ranges, options: WireOptions): Wire => {
  const quiet = new Quiet()
  return {
    isOpen: link.isOpen,
    dispose: () => {
      quiet.end()
      return link.dispose()
    },
    send: async (name, request, timeoutMs = options.requestTimeoutMs) => {
      const api = requests[name]
      const version = ranges.of(name)
      const body = await encode(api, request, version, timeoutMs)
      // What the broker asked us to hold back for so long is not late.
      await quiet.over()
      try {
        const answer = await within(
          link.send({ name, key: api.key, version, body }),
          timeoutMs,
          () =>
            new KafkaFailure({ type: "Timeout", sent: true, cause: `${name} was not answered within ${timeoutMs} ms` })
        )
        const decoded = decode(api, answer, version)
        quiet.wanted(decoded.throttleMs ?? 0)
        return decoded
      } catch (error) {
        if (error instanceof KafkaFailure && error.type === "Timeout") await link.dispose()
        throw error
      }
    }
  }
}

const isTagged = ({ taggedFrom = Infinity }: { readonly taggedFrom?: number }, version: number): boolean =>
  version >= taggedFrom

const NO_TAGS = Buffer.alloc(1)

const encode = async <Request>(
  api: Api<Request, Answer>,
  request: Request,
  version: number,
  timeoutMs: number
): Promise<Buffer> => {
  try {
    const encoded = api.encode(request, version)
    // A codec that never comes back must not keep what waits behind it.
    const body = encoded instanceof Promise
      ? await within(encoded, timeoutMs, () => new Error(`the codec has not answered within ${timeoutMs} ms`))
      : encoded
    return isTagged(api, version) ? Buffer.concat([NO_TAGS, body]) : body
  } catch (cause) {
    // Whatever link it is given to: nothing of it was sent.
    throw new KafkaFailure({ type: "Encoding", sent: false, cause })
  }
}

const decode = <Response extends Answer>(api: Api<never, Response>, answer: Buffer, version: number): Response => {
  try {
    if (!isTagged(api, version)) return api.decode(answer, version)
    const reader = new Reader(answer)
    reader.tags()
    return api.decode(answer.subarray(reader.at), version)
  } catch (cause) {
    throw new KafkaFailure({ type: "Client", sent: true, cause })
  }
}

// ---- versions ----

/** What the broker speaks. */
class Ranges {
  private readonly chosen = new Map<ApiName, number>()
  constructor(
    private readonly ranges: ReadonlyMap<number, { readonly oldest: number; readonly newest: number }>
  ) {}

  /** The best version of a request that both sides know. */
  of(name: ApiName): number {
    const known = this.chosen.get(name)
    if (known !== undefined) return known
    const { key, versions } = requests[name]
    const range = this.ranges.get(key)
    const version = range && versions.find((version) => version >= range.oldest && version <= range.newest)
    if (version === undefined) {
      const cause = `The broker does not know ${name} in the version that is needed`
      throw new KafkaFailure({ type: "UNSUPPORTED_VERSION", sent: false, cause })
    }
    this.chosen.set(name, version)
    return version
  }
}

const askVersions = async (link: Link): Promise<ConstructorParameters<typeof Ranges>[0]> => {
  const api = requests.ApiVersions
  for (const version of api.versions) {
    const body = await link.send({ name: "ApiVersions", key: api.key, version, body: Buffer.alloc(0) })
    const { errorCode, ranges } = decode(api, body, version)
    if (errorCode === 0) return new Map(ranges.map(({ key, newest, oldest }) => [key, { oldest, newest }]))
    const error = failure("ApiVersions", errorCode)
    if (error.type !== "UNSUPPORTED_VERSION") throw error
  }
  throw disconnected("The broker does not say which versions of the protocol it speaks", false)
}

// ---- time ----

/** For how long a broker wants nothing, by a clock that nobody sets. */
class Quiet {
  private until = 0
  private readonly waiting = new Set<() => void>()

  wanted(millis: number): void {
    if (millis > 0) this.until = Math.max(this.until, performance.now() + millis)
  }

  over(): Promise<void> | undefined {
    const millis = this.until - performance.now()
    if (millis <= 0) return undefined
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        this.waiting.delete(end)
        resolve()
      }
      const timer = setTimeout(end, millis)
      this.waiting.add(end)
    })
  }

  /** Nobody has to wait any more. */
  end(): void {
    for (const end of this.waiting) end()
  }
}

/** By timers that nobody's clock sets. Where the process was asleep, what came meanwhile is looked at first. */
const within = <A>(promise: Promise<A>, millis: number, late: () => Error): Promise<A> =>
  new Promise<A>((resolve, reject) => {
    let grace: NodeJS.Immediate | undefined
    const timer = setTimeout(() => {
      grace = setImmediate(() => reject(late()))
    }, millis)
    const end = () => {
      clearTimeout(timer)
      clearImmediate(grace)
    }
    promise.then((value) => {
      end()
      resolve(value)
    }, (error: unknown) => {
      end()
      reject(error instanceof Error ? error : new Error(String(error)))
    })
  })
