/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { cp, mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type BrokerError, system } from "./BrokerError.js"
import * as Cache from "./Cache.js"
import * as Command from "./Command.js"
import * as Debian from "./Debian.js"

/**
 * The one that is taken where nobody asks for another: in `Kafka.make`, or by `TEST_KAFKA_VERSION`.
 *
 * @since 0.1.0
 * @category models
 */
export const defaultVersion = "4.1.0"

/**
 * Kafka's server, ready to be run by a JVM.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaPackage {
  readonly java: string
  readonly classpath: string
  /** The folder that `kafka-storage format` makes; save `meta.properties`, it is the same for every cluster without users. */
  readonly formatted: string
}

const advice =
  "Install a JDK 17 or newer and Maven (Debian: apt-get install default-jdk-headless maven), start Docker, or name a running Kafka in TEST_KAFKA_BROKERS."

const pom = fileURLToPath(new URL("../pom.xml", import.meta.url))

const isJava17 = (output: string) => Number(/version "(\d+)/.exec(output)?.[1] ?? 0) >= 17

const javas = () => {
  const home = process.env["JAVA_HOME"]
  return home === undefined ? ["java"] : [join(home, "bin", "java"), "java"]
}

const required = (find: Effect.Effect<string | undefined>, debian: string) =>
  Effect.gen(function*() {
    const found = yield* find
    if (found !== undefined) return found
    yield* Debian.install("kafka", [debian], advice)
    return (yield* find) ?? (yield* Effect.fail(system("kafka", advice)("still not found after its installation")))
  })

const findJava = required(Effect.suspend(() => Command.find(javas(), ["-version"], isJava17)), "default-jdk-headless")
const findMaven = required(Command.find(["mvn"], ["--version"], () => true), "maven")

const sample = (logDir: string) =>
  [
    "process.roles=broker,controller",
    "node.id=1",
    "controller.quorum.voters=1@127.0.0.1:9093",
    "listeners=CLIENT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
    "listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name=CLIENT",
    "controller.listener.names=CONTROLLER",
    `log.dirs=${logDir}`
  ].join("\n")

const build = (java: string, version: string) => (folder: string) =>
  Effect.gen(function*() {
    const maven = yield* findMaven
    const repository = join(folder, "repository")
    const file = <A>(f: () => Promise<A>) =>
      Effect.tryPromise({ try: f, catch: system("kafka", "its package can't be written") })
    yield* file(() => cp(pom, join(folder, "pom.xml")))
    yield* Command.expect(maven, [
      "-q",
      "-B",
      "dependency:copy-dependencies",
      `-Dkafka.version=${version}`,
      `-Dmaven.repo.local=${repository}`,
      `-DoutputDirectory=${join(folder, "lib")}`
    ], { cwd: folder, advice: `The jars of Kafka ${version} could not be fetched by Maven.` })
    yield* file(() => rm(repository, { recursive: true, force: true }))
    yield* file(() => mkdir(join(folder, "formatted")))
    yield* file(() => writeFile(join(folder, "format.properties"), sample(join(folder, "formatted"))))
    yield* Command.expect(java, [
      "-cp",
      join(folder, "lib", "*"),
      "kafka.tools.StorageTool",
      "format",
      "-t",
      "AAAAAAAAAAAAAAAAAAAAAQ",
      "-c",
      join(folder, "format.properties")
    ])
  })

/**
 * Kafka's jars from the cache, fetched by Maven the first time, and the JDK to run them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const get = (version: string = defaultVersion): Effect.Effect<KafkaPackage, BrokerError> =>
  Effect.gen(function*() {
    const java = yield* findJava
    const folder = yield* Cache.entry(`kafka-${version}-1`, build(java, version))
    return { java, classpath: join(folder, "lib", "*"), formatted: join(folder, "formatted") }
  })
