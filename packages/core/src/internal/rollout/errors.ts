import * as Data from "effect/Data"

/**
 * The next step did not begin.
 *
 * @internal
 */
export class NotPromoted extends Data.TaggedError("NotPromoted")<{
  readonly name: string
  readonly reasons: ReadonlyArray<string>
}> {
  override get message() {
    return `The rollout "${this.name}" stays at its step: ${this.reasons.join("; ")}`
  }
}

/**
 * The store of a rollout could not be read, or has something else than a state. Without the state nobody knows whether the candidate was rolled back before.
 *
 * @internal
 */
export class StoreFailed extends Data.TaggedError("StoreFailed")<{
  readonly name: string
  readonly operation: "load" | "save"
  readonly cause: string
}> {
  override get message() {
    return `The state of the rollout "${this.name}" could not be ${
      this.operation === "load" ? "loaded" : "saved"
    }: ${this.cause}`
  }
}
