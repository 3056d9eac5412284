/** How much text the broker takes beside a commit: `offset.metadata.max.bytes`, which nobody can ask for. */
import * as Effect from "effect/Effect"
import type { FailureType } from "./Failure.js"

const SIZES = [4_096, 512, 64, 0]

export class MetadataRoom {
  private index = 0

  get bytes(): number {
    return SIZES[this.index]!
  }

  /** The broker refused a text of so many bytes as too large: from now on it is shorter. */
  refused(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.index === SIZES.length - 1) return Effect.void
      this.index++
      return Effect.logWarning(
        `The broker takes less metadata with commits than 4,096 bytes (offset.metadata.max.bytes); from now on it gets ${this.bytes}. ` +
          "What has no room there, and was finished above the watermark, is handled again after a crash"
      )
    })
  }
}

/** Errors that say that the text is too large. */
export const isTooLarge = (type: FailureType): boolean =>
  type === "OFFSET_METADATA_TOO_LARGE" || type === "INVALID_COMMIT_OFFSET_SIZE"
