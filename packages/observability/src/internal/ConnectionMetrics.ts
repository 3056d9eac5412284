import type { Observer } from "@effect-eventbus/core"
import type { Client } from "./GroupMetrics.js"
import { own } from "./Instruments.js"

type Update = (value: number) => void

const values = { Connected: 1, Degraded: 0.5, Disconnected: 0 }

/**
 * What a transport tells: its connection, and what happens to groups.
 *
 * @internal
 */
export class ConnectionMetrics {
  private readonly connected: Update
  private readonly reconnects: Update
  private readonly disconnects: Update
  private readonly groups = new Map<string, Readonly<Record<"Rebalanced" | "TakenOver" | "LeaseLost", Update>>>()
  private last: keyof typeof values | undefined
  private wasConnected = false

  constructor(private readonly client: Client) {
    this.connected = client.own(own.connected, {})
    this.reconnects = client.own(own.reconnects, {})
    this.disconnects = client.own(own.disconnects, {})
  }

  tell(event: Observer.Event): void {
    switch (event._tag) {
      case "Connected":
      case "Degraded":
      case "Disconnected":
        return this.changed(event._tag)
      case "Rebalanced":
      case "TakenOver":
      case "LeaseLost": {
        const { group, topic } = event
        const name = `${topic}/${group}`
        let counters = this.groups.get(name)
        if (counters === undefined) {
          const make = (definition: Parameters<Client["own"]>[0]) => this.client.own(definition, { topic, group })
          counters = {
            Rebalanced: make(own.rebalances),
            TakenOver: make(own.takeOvers),
            LeaseLost: make(own.leasesLost)
          }
          this.groups.set(name, counters)
        }
        return counters[event._tag](1)
      }
    }
  }

  private changed(state: keyof typeof values): void {
    const { last } = this
    this.last = state
    this.connected(values[state])
    if (state === "Disconnected") {
      if (last !== undefined && last !== state) this.disconnects(1)
      return
    }
    if (this.wasConnected && last === "Disconnected") this.reconnects(1)
    this.wasConnected = true
  }
}
