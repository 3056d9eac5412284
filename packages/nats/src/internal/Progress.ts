/** How a partition gets on: where it stands, since when, and what keeps it from reading. */
import type { PartitionStatus, Problem } from "@effect-eventbus/core/Transport"

/** Milliseconds since the epoch, by a clock that is not set back. */
const now = (): number => performance.timeOrigin + performance.now()

export class Progress {
  private position = -1
  private watermark = -1
  private movedAt = now()
  private trouble: Problem | undefined
  private pause: Problem | undefined
  private unsettled: Problem | undefined

  /** To be told from time to time: that is how exactly one knows since when nothing has moved. */
  see(position: number, watermark: number): Pick<PartitionStatus, "position" | "watermark" | "movedAt"> {
    if (position !== this.position || watermark !== this.watermark) {
      this.movedAt = now()
      this.position = position
      this.watermark = watermark
    }
    return { position, watermark, movedAt: this.movedAt }
  }

  get problem(): Problem | undefined {
    return this.trouble ?? this.unsettled ?? this.pause
  }

  /** Reading has broken off; it is tried again. */
  failed(why: string, isDenied = false): void {
    this.trouble = {
      message: `it can't be read and is tried again: ${why}`,
      since: this.trouble?.since ?? now(),
      kind: isDenied ? "right" : "fetch"
    }
  }

  /** Somebody has paused its consumer on the server until this time; undefined: it is not paused any more. */
  readonly paused = (until: string | undefined): void => {
    if (until === undefined) this.pause = undefined
    else {
      const message = `somebody has paused its consumer on the server until ${until}: nothing new is read`
      this.pause = { message, since: this.pause?.since ?? now(), kind: "paused" }
    }
  }

  /** The server does not confirm acknowledgements, for this reason; undefined: it does. Answers whether that is news. */
  unconfirmed(why: string | undefined, isDenied = false): boolean {
    const isNews = (why === undefined) !== (this.unsettled === undefined)
    this.unsettled = why === undefined
      ? undefined
      : {
        message: `acknowledgements are not confirmed: ${why}`,
        since: this.unsettled?.since ?? now(),
        kind: isDenied ? "right" : "commit"
      }
    return isNews
  }

  /** It is read. */
  healthy(): void {
    this.trouble = undefined
  }
}
