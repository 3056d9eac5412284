/**
 * The one error of all requests, whichever driver sends them and whoever asks: a
 * driver fails with it, too, and with nothing else.
 */
import * as Data from "effect/Data"
import type { ErrorName } from "./ErrorCode.js"
import * as ErrorCode from "./ErrorCode.js"

/**
 * Why a request has no good answer:
 * - Kafka's name of the error with which the broker has answered; `UNSUPPORTED_VERSION` also where it does not speak the request,
 * - `Connection`: there is no link, or it was lost,
 * - `Timeout`: there was no answer in time, and the link was given up,
 * - `Authentication`: the broker does not accept who we are,
 * - `Encoding`: what is to be sent can't be written,
 * - `Client`: anything else that is of this side.
 */
export type FailureType =
  | ErrorName
  | "Authentication"
  | "Client"
  | "Connection"
  | "Encoding"
  | "STILL_ENDING"
  | "Timeout"

/** `sent` says whether the broker may have acted on the request all the same. */
export class KafkaFailure extends Data.TaggedError("KafkaFailure")<{
  readonly type: FailureType
  readonly sent: boolean
  readonly cause: unknown
}> {
  override get message() {
    return `${this.type}: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }
  /** The broker's number of the error, where it has given one. */
  get code(): number | undefined {
    return ErrorCode.codeOf(this.type)
  }
  get isUnreachable() {
    return this.type === "Connection" || this.type === "Timeout"
  }
  /** It is not the broker's. */
  get isOurs() {
    return this.type === "Client" || this.type === "Encoding"
  }
}

/** The broker refuses it for want of a right. */
export const isDenied = (cause: unknown): boolean =>
  cause instanceof KafkaFailure && (cause.type === "Authentication" || cause.type.endsWith("AUTHORIZATION_FAILED"))

/** The failure for an error code in an otherwise good answer. */
export const failure = (request: string, code: number): KafkaFailure =>
  new KafkaFailure({ type: ErrorCode.nameOf(code), sent: true, cause: `${request} was answered with error ${code}` })

/** There is no link, or it was lost. */
export const disconnected = (cause: unknown, sent: boolean): KafkaFailure =>
  new KafkaFailure({ type: "Connection", sent, cause })
