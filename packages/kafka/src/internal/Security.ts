/** What connections need to be trusted, and to trust: certificates, and who we are. */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import { readFile } from "node:fs/promises"
import type { ConnectionOptions } from "node:tls"
import type { Sasl, Settings, Tls } from "../KafkaConfig.js"
import type { Credentials } from "./Driver.js"
import * as Token from "./Token.js"
import type { WireOptions } from "./Wire.js"

/** Certificates that can't be read are found out here; later they may be so for the moment in which they are renewed. */
export const make = (
  { connectionTimeout, sasl, tls }: Pick<Settings, "connectionTimeout" | "sasl" | "tls">
): Effect.Effect<Pick<WireOptions, "sasl" | "tls">, InvalidConfiguration> =>
  Effect.gen(function*() {
    const run = Runtime.runPromise(yield* Effect.runtime<never>())
    if (tls !== undefined) yield* certificatesOf(tls)
    return {
      tls: tls === undefined ? undefined : () => run(certificatesOf(tls)),
      sasl: sasl === undefined ? undefined : yield* credentialsOf(sasl, connectionTimeout, run)
    }
  })

const credentialsOf = (
  sasl: Sasl,
  withinMs: number,
  run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
): Effect.Effect<Credentials> =>
  Effect.gen(function*() {
    const { mechanism } = sasl
    if (mechanism !== "oauthbearer") {
      return { mechanism, username: sasl.username, password: Redacted.value(sasl.password) }
    }
    const tokens = yield* Token.make(sasl.token, withinMs)
    return {
      mechanism,
      token: async () => {
        const token = await run(Effect.either(tokens.get))
        if (token._tag === "Left") throw token.left
        return token.right
      },
      renew: tokens.renew
    }
  })

const certificatesOf = (tls: Tls): Effect.Effect<ConnectionOptions, InvalidConfiguration> =>
  Effect.map(
    Effect.all({
      ca: pem("kafka.tls.ca", tls.ca),
      cert: pem("kafka.tls.cert", tls.cert),
      key: pem("kafka.tls.key", tls.key && Redacted.value(tls.key))
    }),
    (files) => ({
      ...files,
      ...(tls.passphrase === undefined ? {} : { passphrase: Redacted.value(tls.passphrase) }),
      ...(tls.servername === undefined ? {} : { servername: tls.servername })
    })
  )

const pem = (name: string, value: string | undefined): Effect.Effect<string | undefined, InvalidConfiguration> =>
  value === undefined || value.includes("-----BEGIN")
    ? Effect.succeed(value)
    : Effect.tryPromise({
      try: () => readFile(value, "utf8"),
      catch: (cause) =>
        new InvalidConfiguration({
          issues: [`${name}: is neither PEM text nor the path of a file that can be read`],
          cause
        })
    })
