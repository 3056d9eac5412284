import { Observer } from "@effect-eventbus/core"
import { Duration } from "effect"
import { FullMailboxes } from "../src/internal/fullMailboxes.js"
import type { Defaults } from "../src/internal/placement.js"

/** What slots are made of in tests of mailboxes without a bus. */
export const defaults = (capacity = 1_000): Defaults => ({
  capacity,
  restartBase: Duration.millis(1),
  full: new FullMailboxes(Observer.none, () => 0)
})
