/** The command line of a run. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { type Action, defaults, defaultsOf, type Options, presets } from "./Options.js"
import * as Strategies from "./Strategies.js"

export const usage = `npm run chaos -- [--preset ${
  Object.keys(presets).join("|")
}] [--transport kafka|nats|memory] [--driver kafkajs|platformatic]
  [--seconds N] [--envelopes N] [--instances N] [--aggregates N] [--partitions N] [--nodes 1|3]
  [--kill-every 5s] [--relentless] [--actions kill,stop,suspend] [--cut] [--cut-every 3s] [--broker-restart] [--restart-every 20s]
  [--park 30] [--rate 1500] [--no-comparison]
  [--strategy actor-per-aggregate|actor-pool|keyed-workers|pool:N] [--switch-every 500ms] [--handler-ms 0-5] [--fail 1%] [--ahead N] [--session-timeout 2s] [--seed S] [--json] [--logs FOLDER]`

export class InvalidArguments extends Data.TaggedError("InvalidArguments")<{ readonly detail: string }> {
  override get message() {
    return `${this.detail}\n${usage}`
  }
}

export interface CommandLine {
  readonly options: Options
  readonly json: boolean
  /** Whether a run without poison comes first, with which this one is compared. */
  readonly isCompared: boolean
}

const text = { type: "string" } as const
const flag = { type: "boolean" } as const

const flags = {
  preset: text,
  transport: text,
  driver: text,
  seconds: text,
  envelopes: text,
  instances: text,
  aggregates: text,
  partitions: text,
  nodes: text,
  "kill-every": text,
  relentless: flag,
  actions: text,
  cut: flag,
  "cut-every": text,
  "broker-restart": flag,
  "restart-every": text,
  strategy: text,
  "switch-every": text,
  "handler-ms": text,
  fail: text,
  park: text,
  rate: text,
  "no-comparison": flag,
  ahead: text,
  "session-timeout": text,
  seed: text,
  json: flag,
  logs: text
} as const

const bad = (detail: string): never => {
  throw new InvalidArguments({ detail })
}

const count = (name: string, least: number) => (value: string): number => {
  const number = Number(value)
  return Number.isSafeInteger(number) && number >= least
    ? number
    : bad(`--${name}: a whole number of at least ${least}, not ${value}`)
}

const seconds = (name: string) => (value: string): number => {
  const match = /^(\d+(?:\.\d+)?)(ms|s)?$/.exec(value)
  const number = match === null ? 0 : Number(match[1]) / (match[2] === "ms" ? 1_000 : 1)
  return number > 0 ? number : bad(`--${name}: a time such as 5s or 500ms, not ${value}`)
}

const oneOf = <const A extends string>(name: string, ...of: ReadonlyArray<A>) => (value: string): A =>
  of.find((one) => one === value) ?? bad(`--${name}: ${of.join(", ")}; not ${value}`)

const rate = (value: string): number => {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(value)
  const number = match === null ? -1 : Number(match[1]) / (match[2] === "%" ? 100 : 1)
  return number >= 0 && number < 1 ? number : bad(`--fail: a share such as 1% or 0.01, not ${value}`)
}

const range = (value: string): Pick<Options, "minWorkMs" | "maxWorkMs"> => {
  const match = /^(\d+)(?:-(\d+))?$/.exec(value)
  const [from, to] = [Number(match?.[1] ?? 1), Number(match?.[2] ?? match?.[1] ?? 0)]
  return from <= to ? { minWorkMs: from, maxWorkMs: to } : bad(`--handler-ms: a range such as 0-5, not ${value}`)
}

/** Strangers are compared with themselves: they get as much in both runs, and less than can be handled. */
const parkingRate = 1_500

const driver = oneOf("driver", "kafkajs", "platformatic")

const strategy = (value: string): string =>
  Strategies.named(value) === undefined
    ? bad(`--strategy: actor-per-aggregate, actor-pool, keyed-workers, or pool:8 for eight slots; not ${value}`)
    : value

const set = <K extends keyof Options>(key: K, value: string | undefined, parse: (value: string) => Options[K]) =>
  value === undefined ? {} : { [key]: parse(value) }

/** What is asked for comes before the preset, and that before the defaults. */
const parsed = (args: ReadonlyArray<string>, seed: number): CommandLine => {
  const { values } = parseArgs({ args: [...args], options: flags, strict: true })
  const preset = values.preset === undefined ? {} : presets[oneOf("preset", ...Object.keys(presets))(values.preset)]!
  const transport = oneOf("transport", "kafka", "nats", "memory")(
    values.transport ?? preset.transport ?? defaults.transport
  )
  const wants = (every: string | undefined, asked: boolean | undefined) => asked === true || every !== undefined
  const options: Options = {
    ...defaults,
    ...defaultsOf[transport],
    seed,
    ...preset,
    transport,
    ...set("seconds", values.seconds, count("seconds", 1)),
    ...set("envelopes", values.envelopes, count("envelopes", 0)),
    ...set("instances", values.instances, count("instances", 1)),
    ...set("aggregates", values.aggregates, count("aggregates", 1)),
    ...set("logs", values.logs, (folder) => folder),
    ...set("partitions", values.partitions, count("partitions", 1)),
    ...set("nodes", values.nodes, (value) => oneOf("nodes", "1", "3")(value) === "3" ? 3 : 1),
    ...set("killEverySeconds", values["kill-every"], seconds("kill-every")),
    ...(values.relentless === true ? { relentless: true } : {}),
    ...set(
      "actions",
      values.actions,
      (value) => value.split(",").map(oneOf<Action>("actions", "kill", "stop", "suspend"))
    ),
    ...(wants(values["cut-every"], values.cut)
      ? { cutEverySeconds: seconds("cut-every")(values["cut-every"] ?? "3s") }
      : {}),
    ...(wants(values["restart-every"], values["broker-restart"])
      ? { restartEverySeconds: seconds("restart-every")(values["restart-every"] ?? "20s") }
      : {}),
    ...(values["handler-ms"] === undefined ? {} : range(values["handler-ms"])),
    ...set("failureRate", values.fail, rate),
    ...set("patients", values.park, count("park", 0)),
    ...(values.park === undefined ? {} : { rate: parkingRate }),
    ...set("rate", values.rate, count("rate", 1)),
    ...set("strategy", values.strategy, strategy),
    ...set("switchEverySeconds", values["switch-every"], seconds("switch-every")),
    ...set("ahead", values.ahead, count("ahead", 1)),
    ...set("sessionTimeoutMs", values["session-timeout"], (value) => seconds("session-timeout")(value) * 1_000),
    ...set("seed", values.seed, count("seed", 0)),
    ...set("settings", values.driver, (value) => ({ ...preset.settings, EVENTBUS_KAFKA_DRIVER: driver(value) }))
  }
  if (values.driver !== undefined && transport !== "kafka") bad("--driver: kafka only")
  const { actions, aggregates, cutEverySeconds, nodes, patients, restartEverySeconds } = options
  if (patients > aggregates) bad(`--park: at most ${aggregates}, the number of --aggregates, not ${patients}`)
  if (transport === "memory") {
    if (cutEverySeconds !== undefined || restartEverySeconds !== undefined || nodes > 1) {
      bad("--cut, --broker-restart and --nodes 3: kafka or nats only; in memory there is no network and no server")
    }
    if (actions.includes("suspend")) {
      bad("--actions: memory knows kill and stop; what shares a process can't be suspended")
    }
  }
  return { options, json: values.json === true, isCompared: patients > 0 && values["no-comparison"] !== true }
}

export const parse = (args: ReadonlyArray<string>, seed: number): Effect.Effect<CommandLine, InvalidArguments> =>
  Effect.try({
    try: () => parsed(args, seed),
    catch: (cause) =>
      cause instanceof InvalidArguments
        ? cause
        : new InvalidArguments({ detail: cause instanceof Error ? cause.message : String(cause) })
  })
