import { Effect } from "effect"
import * as T from "./fixture.js"

/** What becomes of a request: it goes to the server, nobody answers it, or it is answered as if there were no room. */
export type Fate = "Served" | "Lost" | "NoRoom"

const noRoom = JSON.stringify({ error: { code: 503, err_code: 10023, description: "insufficient resources" } })

/** A domain whose requests go to the server over a client of the test, as far as the test lets them. */
export const relay = (servers: ReadonlyArray<string>, name: string, fateOf: (endpoint: string) => Fate) =>
  Effect.map(T.client(servers), (nc) => {
    const prefix = `$JS.${name}.API.`
    nc.subscribe(`${prefix}>`, {
      callback: (_, { data, headers, reply, subject }) => {
        const endpoint = subject.slice(prefix.length)
        const fate = fateOf(endpoint)
        if (fate === "Lost") return
        if (fate === "NoRoom") return nc.publish(reply!, noRoom)
        const to = endpoint.startsWith("$KV.") ? endpoint : `$JS.API.${endpoint}`
        nc.publish(to, data, {
          ...(headers === undefined ? {} : { headers }),
          ...(reply === undefined ? {} : { reply })
        })
      }
    })
    return { servers, domain: name }
  })
