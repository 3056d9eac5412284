/**
 * Circuits: what is known to be down, and the subscriptions that wait for it. `FailurePolicy.circuit` opens one. The guard of a subscription is one
 * as well: it opens when too many messages would be given up.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"

/**
 * How a circuit stands.
 *
 * - `closed`: all is well.
 * - `open`: the subscriptions that have it begin nothing. What ran when it opened finishes.
 * - `half-open`: one message probes, or one to probe with is looked for. Nothing else begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface State {
  /** Its name; where it has none, and of a guard, the subscription as `topic/group`. */
  readonly name: string
  readonly kind: "circuit" | "guard"
  readonly state: "closed" | "open" | "half-open"
  /** When this state began, in milliseconds since the epoch. */
  readonly since: number
  /** When it opened, in milliseconds since the epoch. Undefined: it is closed. */
  readonly openedAt: number | undefined
  /** Why it is open. Undefined: it is closed. */
  readonly reason: string | undefined
  /** Somebody has opened it by hand: nothing probes, and somebody has to close it. */
  readonly isByHand: boolean
  /** The subscriptions that have it, as `topic/group`. */
  readonly subscriptions: ReadonlyArray<string>
}

/**
 * A circuit went from one state to another. When it closes, `reason` is why it was open, and `isByHand` whether it was by hand.
 *
 * @since 0.1.0
 * @category models
 */
export interface Change extends State {
  readonly from: State["state"]
  /** For how long it was open, in milliseconds. Undefined: it is open still. */
  readonly openFor: number | undefined
}

/**
 * The circuits of a bus.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** All circuits that have been used, with their states; and the guards that have stopped a subscription. */
  readonly list: Effect.Effect<ReadonlyArray<State>>
  /**
   * Opens a named circuit by hand: its subscriptions begin nothing until somebody closes it, because nothing probes. `false`: no subscription has
   * a circuit of this name.
   */
  readonly open: (name: string, options?: OpenOptions) => Effect.Effect<boolean>
  /** Closes a circuit, whoever has opened it: all messages go on, in order. `false`: there is none of this name, or it is closed. */
  readonly close: (name: string) => Effect.Effect<boolean>
  /** Each change of a circuit or a guard from now on: a sliding view of the newest 256. */
  readonly changes: Stream.Stream<Change>
}

/**
 * How a circuit is opened by hand.
 *
 * @since 0.1.0
 * @category options
 */
export interface OpenOptions {
  /** Shown in its state, and logged. */
  readonly reason?: string | undefined
}

/**
 * When the guard of a subscription stops it. What is left out is as the bus is configured.
 *
 * @since 0.1.0
 * @category options
 */
export interface GuardOptions {
  /** So many messages have to be given up: in a row, or within `window`. Default: `guardFrom` of the bus, 200. */
  readonly from?: number | undefined
  /** And within `window` they have to be this part of all that have ended, in percent. Default: `guardPercent` of the bus, 50. */
  readonly percent?: number | undefined
  /** Default: `guardWindow` of the bus, 5 minutes. */
  readonly window?: Duration.DurationInput | undefined
  /** When a message probes, so that the subscription goes on by itself. Default: never, so that somebody has to say `control.goOn`. */
  readonly probe?: Schedule.Schedule<unknown> | undefined
}
