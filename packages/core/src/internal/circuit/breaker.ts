import * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"
import type { GuardOptions } from "../../Circuit.js"
import type * as EventBusConfig from "../../EventBusConfig.js"
import type * as FailurePolicy from "../../FailurePolicy.js"
import type { Problem } from "../../Transport.js"
import type { Flight } from "../flight.js"
import type { Circuit } from "./circuit.js"
import type { Circuits } from "./circuits.js"
import { Guard } from "./guard.js"
import type { Member } from "./member.js"

/**
 * The circuits and the guard of one subscription.
 *
 * @internal
 */
export class Breaker {
  private readonly guard: Guard | undefined
  private readonly probe: Schedule.Schedule<unknown> | undefined
  /** That of the guard, once it has stopped the subscription. */
  private stopped: Circuit | undefined
  /** It has, and has not counted since. */
  private hasStopped = false

  constructor(
    private readonly circuits: Circuits,
    private readonly member: Member,
    known: ReadonlyArray<FailurePolicy.Circuit>,
    config: EventBusConfig.Service,
    options: GuardOptions | "off" | undefined,
    counters: ConstructorParameters<typeof Guard>[1],
    time: () => number
  ) {
    for (const { name, probe } of known) circuits.circuit(name, member, probe).join(member)
    if (!member.canProbe || options === "off" || (options === undefined && !config.guard)) return
    this.probe = options?.probe
    this.guard = new Guard(
      {
        from: options?.from ?? config.guardFrom,
        percent: options?.percent ?? config.guardPercent,
        window: Duration.toMillis(options?.window ?? config.guardWindow)
      },
      counters,
      time
    )
  }

  /** The message has failed, because what it needs is down. */
  failed(flight: Flight, { name, probe }: FailurePolicy.Circuit, reason: () => string): void {
    const circuit = this.circuits.circuit(name, this.member, probe)
    circuit.join(this.member)
    circuit.failed(flight, reason, probe)
  }

  /** The message has failed by something else. */
  answered(flight: Flight): void {
    this.circuits.answered(flight)
  }

  /** The message would be given up. `true`: the guard has stopped the subscription, and keeps it. */
  keeps(flight: Flight, reason: () => string): boolean {
    const { guard, stopped } = this
    if (guard === undefined) return false
    if (stopped?.isOpen === true) {
      stopped.failed(flight, reason)
      return true
    }
    if (this.hasStopped) guard.reset()
    this.hasStopped = false
    const tooMany = guard.tooMany()
    if (tooMany === undefined) return false
    const circuit = this.stopped ??= this.circuits.guard(this.member, this.probe ?? "never")
    this.hasStopped = true
    circuit.join(this.member)
    circuit.failed(flight, () => `${tooMany}; the last one: ${reason()}`)
    return true
  }

  /** The guard lets the subscription go on, and counts from zero. `false`: it had not stopped it. */
  goOn(): boolean {
    if (this.stopped?.isOpen !== true) return false
    this.stopped.close()
    return true
  }

  get problems(): ReadonlyArray<Problem> {
    return this.circuits.problemsOf(this.member)
  }

  /** Nothing of it begins to probe any more. */
  closing(): void {
    this.member.isClosing = true
  }

  closed(): void {
    this.circuits.leave(this.member)
  }
}
