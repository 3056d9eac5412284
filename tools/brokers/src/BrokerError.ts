/**
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * Why a broker isn't there: a tool or address is missing, a download failed, its port was taken, it ended while it
 * started, it ran without becoming ready, or an operating system call failed.
 *
 * @since 0.1.0
 * @category errors
 */
export type Reason = "Missing" | "Download" | "PortInUse" | "Exited" | "NotReady" | "System"

/**
 * A broker (or a proxy in front of one) could not be brought up. The message carries the end of the broker's own log
 * and says what to do.
 *
 * @since 0.1.0
 * @category errors
 */
export class BrokerError extends Data.TaggedError("BrokerError")<{
  readonly broker: string
  readonly reason: Reason
  readonly detail: string
  readonly advice?: string | undefined
  readonly log?: string | undefined
  readonly cause?: unknown
}> {
  override get message(): string {
    const advice = this.advice === undefined ? "" : ` ${this.advice}`
    const log = this.log === undefined || this.log.trim() === ""
      ? ""
      : `\n--- last lines of its log ---\n${this.log.trim()}`
    return `${this.broker}: ${this.detail}${advice}${log}`
  }
}

/**
 * Runs a promise of the operating system (files, sockets) with its rejection as a {@link BrokerError}.
 *
 * @since 0.1.0
 * @category constructors
 */
export const system = (broker: string, detail: string) => (cause: unknown): BrokerError =>
  new BrokerError({ broker, reason: "System", detail: `${detail}: ${String(cause)}`, cause })
