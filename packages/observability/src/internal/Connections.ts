import type { Observer } from "@effect-eventbus/core"
import type { Finding } from "../Finding.js"
import { finding } from "./finding.js"
import type { Limits } from "./HealthLimits.js"

/**
 * Whether the transports' brokers can be reached, as the transports tell it.
 *
 * @internal
 */
export class Connections {
  private readonly states = new Map<
    string,
    { readonly state: "Connected" | "Degraded" | "Disconnected"; readonly since: number }
  >()

  constructor(private readonly now: () => number) {}

  tell(event: Observer.Event): void {
    if (event._tag !== "Connected" && event._tag !== "Degraded" && event._tag !== "Disconnected") return
    if (this.states.get(event.transport)?.state === event._tag) return
    this.states.set(event.transport, { state: event._tag, since: this.now() })
  }

  look(limits: Limits, now: number): ReadonlyArray<Finding> {
    return Array.from(this.states).flatMap(([transport, { since, state }]) => {
      if (state === "Connected" || limits.elapsed(since) < limits.disconnectedAfter) return []
      const message = state === "Degraded"
        ? `Some of the ${transport} brokers can't be reached`
        : `No ${transport} broker can be reached`
      return [finding(state, now, { message, since, transport })]
    })
  }
}
