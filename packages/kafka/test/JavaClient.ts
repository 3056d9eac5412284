/** Kafka through Java's own client: a program of a file, run with the jars that the brokers are made of. */
import * as Command from "@effect-eventbus/brokers/Command"
import * as KafkaPackage from "@effect-eventbus/brokers/KafkaPackage"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { shared } from "./Harness.js"

export interface JavaRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly key: string
  readonly value: Buffer
}

/** What to write, of which topic, by which key. */
export interface Input {
  readonly topic: string
  readonly key: string
  readonly value: Uint8Array
}

const program = fileURLToPath(new URL("java/JavaClient.java", import.meta.url))

/** None where there is neither a JDK with Maven nor a way to install them: with Docker or brokers from elsewhere. */
const available = Effect.gen(function*() {
  const kafka = yield* KafkaPackage.get()
  const java = yield* Command.find([kafka.java], ["--list-modules"], (modules) => modules.includes("jdk.compiler"))
  return java === undefined ? undefined : kafka
}).pipe(
  Effect.catchAll((error) => Effect.as(Effect.logWarning("Java's client can't be run", error.message), undefined))
)

/** Runs commands one after the other (JavaClient.java says which); all records that were written and read. */
export const run = (
  { classpath, java }: KafkaPackage.KafkaPackage,
  commands: ReadonlyArray<string>,
  input: ReadonlyArray<Input>
) =>
  Effect.async<ReadonlyArray<JavaRecord>, Error>((resume) => {
    const child = spawn(java, ["-XX:TieredStopAtLevel=1", "-cp", classpath, program, shared().join(","), ...commands])
    const output: Array<Buffer> = []
    const errors: Array<Buffer> = []
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk))
    child.stderr.on("data", (chunk: Buffer) => errors.push(chunk))
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("close", (code) =>
      resume(
        code === 0
          ? Effect.succeed(Buffer.concat(output).toString().split("\n").filter((line) => line !== "").map(recordOf))
          : Effect.fail(new Error(Buffer.concat(errors).toString()))
      ))
    child.stdin.end(
      input.map(({ key, topic, value }) => `${topic} ${key} ${Buffer.from(value).toString("base64")}\n`).join("")
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  }).pipe(Effect.timeout("2 minutes"))

const recordOf = (line: string): JavaRecord => {
  const [topic, partition, offset, key, value] = line.split(" ")
  return {
    topic: topic!,
    partition: Number(partition),
    offset: Number(offset),
    key: key!,
    value: Buffer.from(value ?? "", "base64")
  }
}

/** Skips the test where there is no Java. */
export const ifAvailable = <A, E, R>(
  skip: () => void,
  use: (java: KafkaPackage.KafkaPackage) => Effect.Effect<A, E, R>
) => Effect.flatMap(available, (java) => java === undefined ? Effect.sync(skip) : Effect.asVoid(use(java)))
