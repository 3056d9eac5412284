import * as Dashboard from "./Dashboard.js"
import * as Rules from "./Rules.js"

/** The files of this package that are made, by their path in it. */
export const files: Readonly<Record<string, string>> = {
  "grafana/eventbus.json": Dashboard.format(),
  "prometheus/kafka.rules.yml": Rules.format("kafka"),
  "prometheus/nats.rules.yml": Rules.format("nats")
}
