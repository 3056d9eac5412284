import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** How many full collections the lowest is taken of. */
const last = 3

/** `NODE_PERFORMANCE_GC_MAJOR` */
const major = 4

/** What Node has of this. Elsewhere it may be missing. */
interface Platform {
  readonly process?: { readonly memoryUsage?: () => { readonly heapUsed: number } }
  readonly PerformanceObserver?: {
    new(
      told: (
        list: { readonly getEntries: () => ReadonlyArray<{ readonly detail?: { readonly kind?: number } }> }
      ) => void
    ): {
      readonly observe: (options: { readonly entryTypes: ReadonlyArray<string> }) => void
      readonly disconnect: () => void
    }
    readonly supportedEntryTypes?: ReadonlyArray<string>
  }
}

/**
 * The process's heap after its last full collections, in bytes.
 *
 * @internal
 */
export const live: { readonly open: Effect.Effect<() => number | undefined, never, Scope.Scope> } = {
  open: Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { PerformanceObserver, process } = globalThis as unknown as Platform
        const used: Array<number> = []
        if (process?.memoryUsage === undefined || PerformanceObserver?.supportedEntryTypes?.includes("gc") !== true) {
          return { used, close: () => {} }
        }
        const observer = new PerformanceObserver((list) => {
          if (!list.getEntries().some(({ detail }) => detail?.kind === major)) return
          used.push(process.memoryUsage!().heapUsed)
          if (used.length > last) used.shift()
        })
        observer.observe({ entryTypes: ["gc"] })
        return { used, close: () => observer.disconnect() }
      }),
      ({ close }) => Effect.sync(close)
    ),
    ({ used }) => () => used.length === 0 ? undefined : Math.min(...used)
  )
}
