/**
 * A vitest `globalSetup` that brings up Kafka and NATS once for a project's tests; projects that don't name it in
 * their configuration start nothing. Tests read the addresses by `inject("kafkaBrokers")` and `inject("natsServers")`.
 *
 * @since 0.1.0
 */
import type {} from "vitest"
import type { TestProject } from "vitest/node"
import * as Brokers from "./Brokers.js"

declare module "vitest" {
  export interface ProvidedContext {
    kafkaBrokers: Array<string>
    natsServers: Array<string>
  }
}

interface Shared {
  users: number
  brokers: Promise<Brokers.Brokers> | undefined
}

/** Vitest loads this module anew for each project, so what they share hangs on the process. */
const registry = globalThis as { [key: symbol]: Shared | undefined }
const shared: Shared = registry[Symbol.for("@effect-eventbus/brokers/vitestSetup")] ??= {
  users: 0,
  brokers: undefined
}

/**
 * Vitest runs it once for each project that names it; all of them share the same brokers.
 *
 * @since 0.1.0
 * @category constructors
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared.users++
  const { close, kafka, nats } = await (shared.brokers ??= Brokers.acquire(["kafka", "nats"]))
  project.provide("kafkaBrokers", kafka)
  project.provide("natsServers", nats)
  return async () => {
    if (--shared.users > 0) return
    shared.brokers = undefined
    await close()
  }
}
