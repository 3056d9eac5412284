import { Effect, Exit, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import { server } from "./fixture.js"

/** One server for all tests of a `describe`. */
export const sharedServer = (version: "2.15" | "2.9", config?: string): () => ReadonlyArray<string> => {
  const scope = Effect.runSync(Scope.make())
  let servers: ReadonlyArray<string> = []
  beforeAll(async () => {
    servers = (await Effect.runPromise(Scope.extend(server(version, config), scope))).servers
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return () => servers
}
