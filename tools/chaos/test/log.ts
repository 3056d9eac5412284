import type { Entry, Kind } from "../src/Log.js"

/**
 * A log in short: `"P0 a:S0 a:F0"` is published 0, then started and finished in process a; `a:S0@2` in epoch 2, `a:S0#3` in
 * partition 3, `a:S0?` maybe a duplicate, `a:S0=5` in the fifth second. Without a time each entry comes a second after the one before it.
 */
export const log = (text: string): ReadonlyArray<Entry> =>
  text.split(" ").map((word, i) => {
    const [, process, kind, sequence, epoch, partition, doubt, at] =
      /^(?:(\w+):)?([A-Z])(\d+)(?:@(\d+))?(?:#(\d+))?(\?)?(?:=([\d.]+))?$/.exec(word)!
    return {
      kind: kind as Kind,
      at: Number(at ?? i) * 1e9,
      process: process ?? "publisher",
      aggregate: "order-1",
      sequence: Number(sequence),
      partition: Number(partition ?? 0),
      offset: Number(sequence),
      epoch: Number(epoch ?? 1),
      maybeDuplicate: doubt !== undefined
    }
  })
