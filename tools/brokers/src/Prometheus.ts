/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as BrokerNode from "./BrokerNode.js"
import * as Command from "./Command.js"
import * as Ports from "./Ports.js"
import * as PrometheusPackage from "./PrometheusPackage.js"
import * as TempFolder from "./TempFolder.js"

/**
 * A running Prometheus.
 *
 * @since 0.1.0
 * @category models
 */
export interface Prometheus {
  /** Asks its API, such as `query?query=up`, and answers `data`. */
  readonly api: (path: string) => Effect.Effect<unknown, BrokerError>
  readonly node: BrokerNode.BrokerNode
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** `host:port` of what it scrapes, at `/metrics`. */
  readonly targets: ReadonlyArray<string>
  /** The text of a file of rules. */
  readonly rules?: string | undefined
  /** How often it scrapes and evaluates, in Prometheus's words. Default `"1s"`. */
  readonly interval?: string | undefined
}

/**
 * Brings up a Prometheus with an empty store; it ends with the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<Prometheus, BrokerError, Scope.Scope> =>
  BrokerNode.againOnPortClash(Effect.gen(function*() {
    const { prometheus } = yield* PrometheusPackage.get
    const folder = yield* TempFolder.make("prometheus")
    const [port] = yield* Ports.take(1)
    const address = `127.0.0.1:${port}`
    const file = join(folder, "prometheus.json")
    yield* write(join(folder, "rules.yml"), options.rules ?? "groups: []\n")
    yield* write(file, JSON.stringify(configuration(options)))
    const [node] = yield* BrokerNode.startAll([{
      broker: "prometheus",
      id: 1,
      address,
      folder,
      command: prometheus,
      args: [
        `--config.file=${file}`,
        `--storage.tsdb.path=${join(folder, "data")}`,
        `--web.listen-address=${address}`,
        "--log.level=warn"
      ],
      probe: Effect.asVoid(answer(address, "/-/ready"))
    }])
    return {
      node: node!,
      api: (path) => Effect.map(answer(address, `/api/v1/${path}`), (text) => (JSON.parse(text) as Answer).data)
    }
  }))

interface Answer {
  readonly data: unknown
}

// JSON is YAML.
const configuration = ({ interval = "1s", targets }: Options) => ({
  global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
  rule_files: ["rules.yml"],
  scrape_configs: [{ job_name: "eventbus", static_configs: [{ targets }] }]
})

const write = (file: string, text: string) =>
  Effect.tryPromise({ try: () => writeFile(file, text), catch: system("prometheus", `${file} can't be written`) })

const answer = (address: string, path: string): Effect.Effect<string, BrokerError> =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(`http://${address}${path}`, { signal })
      const text = await response.text()
      if (!response.ok) throw new Error(`${response.status} ${text}`)
      return text
    },
    catch: system("prometheus", `${path} is not answered`)
  }).pipe(Effect.timeoutFail({
    duration: "5 seconds",
    onTimeout: () => new BrokerError({ broker: "prometheus", reason: "NotReady", detail: `${path} is silent` })
  }))

/**
 * Runs `promtool` and answers what it prints. What it finds wrong is a failure.
 *
 * @since 0.1.0
 * @category running
 */
export const promtool = (args: ReadonlyArray<string>, cwd?: string): Effect.Effect<string, BrokerError> =>
  Effect.flatMap(PrometheusPackage.get, ({ promtool }) => Command.expect(promtool, args, { cwd, timeout: "1 minute" }))
