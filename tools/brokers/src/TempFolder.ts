/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { mkdtemp } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type BrokerError, system } from "./BrokerError.js"

/**
 * Reads a pipe whose other end only our process holds. When that ends, for whatever reason (SIGKILL too), every
 * process and container noted in the folder is killed and the folder is removed. It is the only one who removes it.
 */
const warden = `
trap '' INT TERM HUP
while read -r line; do :; done
cd "$1" || exit 0
touch closed
for file in *.pid; do
  [ -f "$file" ] || continue
  pid=$(cat "$file")
  kill -KILL "$pid" 2>/dev/null
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
done
for file in *.container; do [ -f "$file" ] && docker rm -f -v "$(cat "$file")"; done
for file in *.network; do [ -f "$file" ] && docker network rm "$(cat "$file")"; done
cd / && rm -rf "$1"
`

/**
 * A folder of our own below the system's temporary one. It, and the processes noted in it as `NAME.pid`, go when the
 * scope closes and also when this process is killed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (name: string): Effect.Effect<string, BrokerError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const path = await mkdtemp(join(tmpdir(), `eventbus-${name}-`))
        const guard = spawn("sh", ["-c", warden, "eventbus-warden", path], {
          detached: true,
          stdio: ["pipe", "ignore", "ignore"]
        })
        const ended = new Promise<void>((resolve) => guard.once("exit", () => resolve()))
        await new Promise<void>((resolve, reject) => {
          guard.once("spawn", resolve)
          guard.once("error", reject)
        })
        return { path, guard, ended }
      },
      catch: system(name, "its temporary folder can't be made")
    }),
    ({ ended, guard }) =>
      Effect.promise(() => {
        guard.stdin.end()
        return ended
      })
  ).pipe(Effect.map(({ path }) => path))
