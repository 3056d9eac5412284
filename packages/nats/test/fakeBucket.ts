import { Effect } from "effect"
import { type Bucket, Conflict, type Entry, type Value } from "../src/internal/Bucket.js"
import { codes, NatsRequestFailed } from "../src/NatsErrors.js"

/** The server's side of the leases' bucket, which several instances write to, and which has no room when the test says so. */
export class FakeBucket {
  readonly entries = new Map<string, Entry & { readonly value: Value }>()
  issues: ReadonlyArray<string> = []
  private sequence = 0
  private readonly listeners = new Set<(key: string) => void>()

  /** As one of the instances sees it. `isFull` is asked before each of its writes. */
  as(isFull: () => boolean = () => false): Bucket {
    const turn = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipRight(Effect.sleep(1), effect)
    const write = (key: string, revision: number, change: () => void) =>
      Effect.suspend((): Effect.Effect<number, NatsRequestFailed | Conflict> => {
        if (isFull()) {
          return new NatsRequestFailed({
            subject: key,
            reason: "Api",
            error: { code: 400, err_code: codes.accountResourcesExceeded, description: "no room" }
          })
        }
        if ((this.entries.get(key)?.revision ?? 0) !== revision) return new Conflict({ key })
        this.sequence++
        change()
        for (const listener of this.listeners) listener(key)
        return Effect.succeed(this.sequence)
      })
    return {
      ensure: Effect.void,
      get: (key) => turn(Effect.sync(() => this.entries.get(key))),
      put: (key, value, revision) =>
        turn(write(key, revision, () => this.entries.set(key, { value, revision: this.sequence }))),
      remove: (key, revision) => turn(Effect.asVoid(write(key, revision, () => this.entries.delete(key)))),
      withdraw: (key, revision) =>
        turn(Effect.sync(() => (this.entries.get(key)?.revision ?? Infinity) <= revision && this.entries.delete(key))),
      purge: (key) => turn(Effect.sync(() => void this.entries.delete(key))),
      keys: (prefix) =>
        turn(Effect.sync(() => ({
          keys: [...this.entries.keys()].filter((key) => key.startsWith(`${prefix}.`)),
          created: "once",
          last: this.sequence,
          issues: this.issues
        }))),
      changes: (prefix, after, limit) =>
        turn(Effect.sync(() => {
          const changes = [...this.entries].flatMap(([key, entry]) =>
            key.startsWith(`${prefix}.`) && entry.revision > after ? [{ ...entry, key }] : []
          )
          return changes.length > limit ? undefined : changes.sort((a, b) => a.revision - b.revision)
        })),
      hints: (prefix, onKey) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => {
            const listener = (key: string) => {
              if (key.startsWith(`${prefix}.`)) onKey(key)
            }
            this.listeners.add(listener)
            return listener
          }),
          (listener) => Effect.sync(() => this.listeners.delete(listener))
        ))
    }
  }
}
