import type { Observer } from "@effect-eventbus/core"
import type { Finding } from "../Finding.js"
import { finding } from "./finding.js"
import type { Limits } from "./HealthLimits.js"

type State = "Connected" | "Degraded" | "Disconnected"

const bad = ["Disconnected", "Degraded"] as const

/**
 * Whether the transports' brokers can be reached, as the transports tell it.
 *
 * @internal
 */
export class Connections {
  /** Of each transport, by its name and its number. */
  private readonly states = new Map<
    string,
    { readonly transport: string; readonly state: State; readonly since: number }
  >()

  constructor(private readonly now: () => number) {}

  tell(event: Observer.Event): void {
    if (event._tag !== "Connected" && event._tag !== "Degraded" && event._tag !== "Disconnected") return
    const { _tag: state, connection = "", isClosed, transport } = event
    const key = `${transport}/${connection}`
    // It needs no broker any more.
    if (isClosed === true) this.states.delete(key)
    else if (this.states.get(key)?.state !== state) this.states.set(key, { transport, state, since: this.now() })
  }

  look(limits: Limits, now: number): ReadonlyArray<Finding> {
    const all = Array.from(this.states.values())
    return Array.from(new Set(all.map(({ transport }) => transport))).flatMap((transport) => {
      const ofName = all.filter((one) => one.transport === transport)
      return bad.flatMap((reason) => {
        const late = ofName.filter(({ since, state }) =>
          state === reason && limits.elapsed(since) >= limits.disconnectedAfter
        )
        if (late.length === 0) return []
        const which = ofName.length === 1 ? transport : `${late.length} of ${ofName.length} ${transport} transports`
        const message = ofName.length === 1
          ? reason === "Degraded"
            ? `Some of the ${which} brokers can't be reached`
            : `No ${which} broker can be reached`
          : reason === "Degraded"
          ? `Some of the brokers of ${which} can't be reached`
          : `No broker of ${which} can be reached`
        return [finding(reason, now, { message, since: Math.min(...late.map(({ since }) => since)), transport })]
      })
    })
  }
}
