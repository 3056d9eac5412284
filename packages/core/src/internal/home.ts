import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as ExecutionStrategy from "effect/ExecutionStrategy"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { isOfEventLoop } from "./turn.js"

/**
 * What runs attempts, one at a time: a slot. It keeps the scope of the running attempt until that attempt ends.
 *
 * @internal
 */
export interface Host {
  readonly name: string
  /** The scope of the attempt that runs, made when the attempt first asks for it. */
  scope: Scope.CloseableScope | undefined
  /** The FiberRefs become those with which each attempt begins, if they are not; undefined where nothing was set. */
  readonly renewed: () => Effect.Effect<void> | undefined
}

/** The slot that the fiber, or the fiber that forked it, belongs to. */
const currentHost: FiberRef.FiberRef<Host | undefined> = FiberRef.unsafeMake<Host | undefined>(undefined)

/**
 * Waits for something that may itself wait for the handler that asks. There it can be interrupted also from within a finalizer, which
 * would otherwise wait for itself for ever.
 *
 * @internal
 */
export const awaitFromAnywhere = <A, E>(wait: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.flatMap(FiberRef.get(currentHost), (host) => host === undefined ? wait : Effect.interruptible(wait))

const ofAttempt = <A>(use: (scope: Scope.CloseableScope) => Effect.Effect<A>): Effect.Effect<A> =>
  Effect.flatMap(FiberRef.get(currentHost), (host) => {
    if (host?.scope !== undefined) return use(host.scope)
    return Effect.flatMap(Scope.make(), (scope) => {
      if (host !== undefined) host.scope = scope
      return use(scope)
    })
  })

/**
 * The `Scope` that handlers find. One value serves all of them: it stands for the scope of the attempt that uses it,
 * because most attempts open nothing, and a scope for each would cost more than the rest of a message.
 */
const attemptScope = {
  ...Effect.runSync(Scope.make()),
  addFinalizer: (finalizer: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<unknown>) =>
    ofAttempt((scope) => Scope.addFinalizerExit(scope, finalizer)),
  fork: (strategy: ExecutionStrategy.ExecutionStrategy) => ofAttempt((scope) => Scope.fork(scope, strategy))
} as unknown as Scope.Scope

/**
 * Ends the scope of the attempt that has just ended.
 *
 * @internal
 */
export const endScope = (host: Host, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
  const { scope } = host
  if (scope === undefined) return Effect.void
  host.scope = undefined
  // An interruption between two finalizers would leave out the rest of them.
  return Effect.uninterruptible(Scope.close(scope, exit))
}

/**
 * Where the attempts of a subscription run: with the services, the logger and the FiberRefs that were there when the subscription
 * began, without the spans around it. Each attempt begins with exactly these.
 *
 * @internal
 */
export class Home {
  private readonly runFork: ReturnType<typeof Runtime.runFork<never>>
  private readonly context: readonly [readonly [FiberId.Single, Context.Context<never>]]
  private readonly annotations: HashMap.HashMap<string, unknown>
  private readonly locals: FiberRefs.FiberRefs["locals"]
  /** The runtime flags with which each attempt begins. */
  readonly flags: RuntimeFlags.RuntimeFlags

  /**
   * `subscriber` is the runtime of the fiber that subscribes: it has what the handlers need. `turns` takes the place of Effect's
   * default scheduler; a scheduler that the user has provided stays.
   */
  constructor(subscriber: Runtime.Runtime<never>, name: string, turns: Scheduler.Scheduler) {
    const context = Context.omit(Tracer.ParentSpan)(subscriber.context as Context.Context<Tracer.ParentSpan>)
    // No fiber has set it, so one entry is enough for all fibers.
    this.context = [[FiberId.none, Context.add(context, Scope.Scope, attemptScope) as Context.Context<never>]]
    this.annotations = HashMap.set(
      FiberRefs.getOrDefault(subscriber.fiberRefs, FiberRef.currentLogAnnotations),
      "eventbus.subscription",
      name as unknown
    )
    const scheduler = FiberRefs.getOrDefault(subscriber.fiberRefs, FiberRef.currentScheduler)
    // Each fiber sets these itself. The subscriber's values would only stay behind them.
    const runtime = subscriber.pipe(
      Runtime.setFiberRef(
        FiberRef.currentScheduler,
        isOfEventLoop(scheduler) ? turns : scheduler
      ),
      // The fiber that subscribes may be uninterruptible, and the captured runtime remembers that.
      Runtime.enableRuntimeFlag(RuntimeFlags.Interruption),
      Runtime.deleteFiberRef(FiberRef.currentContext),
      Runtime.deleteFiberRef(FiberRef.currentRuntimeFlags),
      Runtime.deleteFiberRef(FiberRef.currentLogAnnotations),
      Runtime.deleteFiberRef(FiberRef.currentLogSpan)
    )
    this.locals = runtime.fiberRefs.locals
    this.flags = runtime.runtimeFlags
    this.runFork = Runtime.runFork(runtime)
  }

  /** Starts a fiber of a host. It does not begin on the stack of the fiber before it. */
  fork(host: Host, effect: Effect.Effect<void>): Fiber.RuntimeFiber<void> {
    return this.runFork(effect, { immediate: false, updateRefs: (_, fiberId) => this.refs(host, fiberId) })
  }

  /** The FiberRefs with which each attempt on this host begins. */
  refs(host: Host, fiberId: FiberId.Runtime): FiberRefs.FiberRefs {
    return FiberRefs.unsafeMake(
      new Map<unknown, unknown>(this.locals)
        .set(FiberRef.currentContext, this.context)
        .set(currentHost, [[FiberId.none, host]])
        .set(FiberRef.currentLogAnnotations, [[
          fiberId,
          HashMap.set(this.annotations, "eventbus.actor", host.name as unknown)
        ]]) as never
    )
  }
}
