import type { Observer } from "@effect-eventbus/core"
import type { Client } from "./GroupMetrics.js"
import { own } from "./Instruments.js"

type Update = (value: number) => void

type State = "Connected" | "Degraded" | "Disconnected"

/**
 * What the transports of one name tell: their connections, and what happens to groups.
 *
 * @internal
 */
export class ConnectionMetrics {
  private readonly connected: Update
  private readonly reconnects: Update
  private readonly disconnects: Update
  private readonly groups = new Map<string, Readonly<Record<"Rebalanced" | "TakenOver" | "LeaseLost", Update>>>()
  /** Of each transport: mostly there is one. */
  private readonly states = new Map<number | undefined, { readonly state: State; readonly wasConnected: boolean }>()

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
        return this.changed(event._tag, event.connection, event.isClosed === true)
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

  private changed(state: State, connection: number | undefined, isClosed: boolean): void {
    const { states } = this
    const last = states.get(connection)
    if (isClosed) states.delete(connection)
    else states.set(connection, { state, wasConnected: last?.wasConnected === true || state !== "Disconnected" })
    this.connected(this.value)
    if (last === undefined) return
    if (state === "Disconnected" && last.state !== state) this.disconnects(1)
    if (state !== "Disconnected" && last.wasConnected && last.state === "Disconnected") this.reconnects(1)
  }

  /** 1: all brokers of all transports can be reached, 0: none can. */
  private get value(): number {
    const all = Array.from(this.states.values(), ({ state }) => state)
    if (all.every((state) => state === "Disconnected")) return 0
    return all.every((state) => state === "Connected") ? 1 : 0.5
  }
}
