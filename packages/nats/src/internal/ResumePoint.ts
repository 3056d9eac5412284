/**
 * Where to begin when the consumer is gone and this process had read from it: at the first message that is not known to be
 * finished.
 */
export class ResumePoint {
  /** Whether all that was delivered up to the highest sequence is in hand or finished. */
  isComplete = false
  /** What is below was acknowledged, as the server has said. */
  private floor = 1
  /** What is below was delivered, and is in hand or finished where all is complete; undefined before there was a consumer. */
  private from: number | undefined

  /** The server says that all is acknowledged up to this sequence. */
  acknowledged(upTo: number): void {
    this.floor = Math.max(this.floor, upTo + 1)
    this.from ??= this.floor
  }

  /** All that was delivered, to whomever, up to this sequence is in hand or finished. */
  recovered(upTo: number): void {
    this.isComplete = true
    this.from = Math.max(this.from ?? 1, upTo + 1)
  }

  /** Another stream, of which nothing is known. */
  startOver(): void {
    this.isComplete = false
    this.floor = 1
    this.from = 1
  }

  /** `highest` is the highest sequence that came, `held` what is in hand and not finished. */
  position(highest: number, held: Iterable<number>): number | undefined {
    if (this.from === undefined || !this.isComplete) return this.from === undefined ? undefined : this.floor
    let lowest = Math.max(this.from, highest + 1)
    for (const sequence of held) if (sequence < lowest) lowest = sequence
    return lowest
  }
}
