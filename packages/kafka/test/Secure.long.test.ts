import { Kafka } from "@effect-eventbus/brokers"
import * as KafkaPackage from "@effect-eventbus/brokers/KafkaPackage"
import type { KafkaConfig } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { execFile } from "node:child_process"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { describe, expect } from "vitest"
import { eventually, finishing, message, numbered, published, request, spec, transport } from "./Harness.js"

describe("a broker that demands a password", () => {
  it.scopedLive("lets in who has it; who does not is told so, without the password", () =>
    Effect.gen(function*() {
      const cluster = yield* Kafka.make({
        config: {
          "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
          "listener.name.client.sasl.enabled.mechanisms": "PLAIN",
          "listener.name.client.plain.sasl.jaas.config":
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_me=\"hunter2\";"
        }
      })
      const connect = (mechanism: "plain" | "scram-sha-512", password: string) =>
        transport({
          brokers: cluster.bootstrap,
          sasl: { mechanism, username: "me", password: Redacted.make(password) }
        })
      const service = yield* connect("plain", "hunter2")
      const topic = spec()
      yield* published(service, topic, numbered(3))
      const { consumer, values } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("they arrive", () => values().length === 3)
      const wrong = yield* Effect.flip(connect("plain", "hunter3"))
      expect(wrong._tag).toBe("InvalidConfiguration")
      expect(`${wrong.message} ${String(wrong.cause)}`).not.toContain("hunter3")
      expect((yield* Effect.flip(connect("scram-sha-512", "hunter2")))._tag).toBe("InvalidConfiguration")
    }), 120_000)
})

const base64Url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")

/** As Kafka's own handler for tests takes it: nobody has signed it. */
const bearer = (subject: string, lifetimeMs: number): KafkaConfig.BearerToken => {
  const now = Date.now()
  const claims = { sub: subject, iat: Math.floor(now / 1_000), exp: (now + lifetimeMs) / 1_000 }
  return {
    value: Redacted.make(`${base64Url({ alg: "none" })}.${base64Url(claims)}.`),
    expiresAt: now + lifetimeMs
  }
}

describe("a broker that demands tokens, and ends sessions", () => {
  it.scopedLive("is told who we are again and again, and nothing notices", () =>
    Effect.gen(function*() {
      const cluster = yield* Kafka.make({
        config: {
          "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
          "listener.name.client.sasl.enabled.mechanisms": "OAUTHBEARER",
          "listener.name.client.oauthbearer.sasl.jaas.config":
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";",
          "listener.name.client.connections.max.reauth.ms": "3000"
        }
      })
      let asked = 0
      let isExpired = false
      const token = Effect.sync(() => {
        asked++
        return bearer("me", isExpired ? -60_000 : 4_000)
      })
      const states: Array<string> = []
      const service = yield* transport({
        brokers: cluster.bootstrap,
        sasl: { mechanism: "oauthbearer", token },
        onConnectionState: ({ _tag }) => Effect.sync(() => void states.push(_tag))
      })
      const topic = spec()
      const { all, consumer, lanes, values } = finishing()
      yield* service.subscribe(request(topic), consumer)
      for (let i = 0; i < 45; i++) {
        yield* published(service, topic, [message("a", String(i))])
        yield* Effect.sleep("200 millis")
      }
      yield* eventually("they arrive", () => values().length >= 45)
      expect(values()).toEqual(Array.from({ length: 45 }, (_, i) => String(i)))
      expect(all().some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
      expect(lanes).toHaveLength(1)
      expect(states).toEqual([])
      expect(asked).toBeGreaterThanOrEqual(3)
      isExpired = true
      const refused = yield* Effect.flip(
        transport({ brokers: cluster.bootstrap, sasl: { mechanism: "oauthbearer", token } })
      )
      expect(refused._tag).toBe("InvalidConfiguration")
    }), 120_000)
})

const run = (command: string, args: ReadonlyArray<string>, cwd: string) =>
  Effect.promise(() => promisify(execFile)(command, [...args], { cwd }))

/** An authority, a certificate for the broker and one for us, as PEM files. */
const certificates = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "eventbus-tls-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  const openssl = (...args: ReadonlyArray<string>) => run("openssl", args, folder)
  const key = ["-newkey", "rsa:2048", "-nodes"]
  yield* openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test ca")
  yield* Effect.promise(() => writeFile(join(folder, "san"), "subjectAltName=IP:127.0.0.1,DNS:localhost"))
  for (const name of ["broker", "client"]) {
    yield* openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`)
    yield* openssl(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
      ...["-out", `${name}.pem`, "-days", "2", "-extfile", "san"]
    )
  }
  const read = (name: string) => Effect.promise(() => readFile(join(folder, name), "utf8"))
  yield* Effect.flatMap(
    Effect.all([read("broker.key"), read("broker.pem")]),
    (parts) => Effect.promise(() => writeFile(join(folder, "store.pem"), parts.join("")))
  )
  return { folder, path: (name: string) => join(folder, name), read }
})

describe("a broker that demands TLS, a certificate and SCRAM", () => {
  it.scopedLive("lets in who has all of them, and nobody else", () =>
    Effect.gen(function*() {
      const files = yield* certificates
      const plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_root=\"root\""
      const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
      const cluster = yield* Kafka.make({
        config: {
          "listener.security.protocol.map": "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
          "listener.name.client.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
          "listener.name.client.plain.sasl.jaas.config": `${plain};`,
          "listener.name.client.scram-sha-256.sasl.jaas.config": scram,
          "listener.name.client.scram-sha-512.sasl.jaas.config": scram,
          "listener.name.client.ssl.client.auth": "required",
          "ssl.keystore.type": "PEM",
          "ssl.keystore.location": files.path("store.pem"),
          "ssl.truststore.type": "PEM",
          "ssl.truststore.location": files.path("ca.pem")
        }
      })
      const tls = {
        ca: files.path("ca.pem"),
        cert: yield* files.read("client.pem"),
        key: Redacted.make(files.path("client.key"))
      }
      const connect = (mechanism: KafkaConfig.SaslMechanism, username: string, password: string, own: object = tls) =>
        transport({
          brokers: cluster.bootstrap,
          sasl: { mechanism, username, password: Redacted.make(password) },
          tls: own
        })
      yield* Effect.promise(() =>
        promisify(execFile)("cat", [files.path("client.pem"), files.path("client.key")]).then(({ stdout }) =>
          writeFile(files.path("client.store"), stdout)
        )
      )
      yield* Effect.promise(() =>
        writeFile(
          files.path("admin.properties"),
          [
            "security.protocol=SASL_SSL",
            "sasl.mechanism=PLAIN",
            "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"root\" password=\"root\";",
            "ssl.truststore.type=PEM",
            `ssl.truststore.location=${files.path("ca.pem")}`,
            "ssl.keystore.type=PEM",
            `ssl.keystore.location=${files.path("client.store")}`
          ].join("\n")
        )
      )
      const { classpath, java } = yield* KafkaPackage.get()
      const users = [["scram-sha-256", "one", "hunter2"], ["scram-sha-512", "two", "hunter3"]] as const
      for (const [mechanism, user, password] of users) {
        yield* run(java, [
          ...["-cp", classpath, "kafka.admin.ConfigCommand", "--bootstrap-server", cluster.bootstrap[0]!],
          ...["--command-config", "admin.properties", "--alter", "--entity-type", "users", "--entity-name", user],
          ...["--add-config", `${mechanism.toUpperCase()}=[password=${password}]`]
        ], files.folder)
      }
      for (const [mechanism, user, password] of users) {
        const service = yield* connect(mechanism, user, password)
        const topic = spec()
        yield* published(service, topic, numbered(3))
        const { consumer, values } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("they arrive", () => values().length === 3)
        const wrong = yield* Effect.flip(connect(mechanism, user, "hunter4"))
        expect(wrong._tag).toBe("InvalidConfiguration")
        expect(`${wrong.message} ${String(wrong.cause)}`).not.toContain("hunter4")
      }
      const untrusted = yield* Effect.flip(connect("scram-sha-256", "one", "hunter2", { ...tls, ca: undefined }))
      expect(untrusted.message).toContain("certificate")
      const without = yield* Effect.flip(connect("scram-sha-256", "one", "hunter2", { ca: tls.ca }))
      expect(["BrokerUnreachable", "InvalidConfiguration"]).toContain(without._tag)
      const missing = yield* Effect.flip(connect("scram-sha-256", "one", "hunter2", { ...tls, ca: "/no/such/file" }))
      expect(missing).toMatchObject({ _tag: "InvalidConfiguration" })
      expect(missing.message).toContain("kafka.tls.ca")
    }), 240_000)
})
