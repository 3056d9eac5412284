/** What can be wrong with several settings together, in words; empty where nothing is. */

interface Metadata {
  readonly streamMetadata?: ReadonlyArray<string> | undefined
  readonly consumerMetadata?: ReadonlyArray<string> | undefined
}

export const metadataIssues = (options: Metadata): ReadonlyArray<string> =>
  (["streamMetadata", "consumerMetadata"] as const).flatMap((key) =>
    (options[key] ?? []).flatMap((entry) =>
      !/^[^=]+=/.test(entry)
        ? [`nats.${key}: expected name=value, got ${entry}`]
        // The server writes such names itself, and drops those of others.
        : entry.startsWith("_nats")
        ? [`nats.${key}: names that begin with _nats are the server's`]
        : []
    )
  )

/** What a connection that is there has decided already. */
const connecting = [
  "servers",
  "name",
  "user",
  "password",
  "token",
  "credentials",
  "credentialsFile",
  "nkeySeed",
  "tls",
  "tlsCaFile",
  "tlsCertFile",
  "tlsKeyFile",
  "tlsHandshakeFirst",
  "connectAttempts",
  "reconnectWait",
  "pingInterval"
] as const

type Address =
  & { readonly [Name in Exclude<typeof connecting[number], "servers">]?: unknown }
  & {
    readonly servers?: ReadonlyArray<string> | undefined
    readonly apiPrefix?: string | undefined
    readonly connection?: unknown
    readonly domain?: string | undefined
    readonly inboxPrefix?: string | undefined
  }

/** Where JetStream is asked, and by which way. */
export const addressIssues = (options: Address): ReadonlyArray<string> => {
  const { apiPrefix, connection, domain, inboxPrefix, servers = [] } = options
  const issues: Array<string> = []
  const given = connection === undefined ? [] : connecting.filter((name) => options[name] !== undefined)
  if (given.length > 0) issues.push(`nats: connection is set, and decides what ${given.join(", ")} would`)
  if (apiPrefix !== undefined) {
    if (domain !== undefined) issues.push("nats: domain and apiPrefix are set, but a domain is a prefix already")
  }
  for (const [name, subject] of Object.entries({ apiPrefix, domain, inboxPrefix })) {
    if (subject !== undefined && !/^[^\s.*>]+(\.[^\s.*>]+)*$/.test(subject)) {
      issues.push(`nats.${name}: expected words separated by single dots, without wildcards`)
    }
  }
  if (servers.some((server) => /^wss?:/i.test(server))) {
    issues.push(
      "nats.servers: the package nats can't connect by WebSocket (ws://, wss://) from Node: use the server's port for clients"
    )
  }
  return issues
}
