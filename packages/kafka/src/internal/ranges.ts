/** Ascending ranges of offsets `[from, to)`. */
export type Ranges = ReadonlyArray<readonly [from: number, to: number]>

/** Ascending ranges, as far as they are below an offset. */
export const below = (end: number, ranges: Ranges): Ranges =>
  end === Infinity
    ? ranges
    : ranges.filter(([from]) => from < end).map(([from, to]) => [from, Math.min(to, end)])

/** Above all that is finished: the commit's own offset, where nothing above it is. */
export const topOf = (offset: number, finished: Ranges): number => finished.at(-1)?.[1] ?? offset

/** Ascending ranges above an offset, with single offsets added. */
export const merged = (ranges: Ranges, offsets: ReadonlySet<number>, above: number): Ranges => {
  if (offsets.size === 0) return ranges
  const all = [...ranges, ...Array.from(offsets, (offset) => [offset, offset + 1] as const)]
  const found: Array<[number, number]> = []
  for (const [from, to] of all.sort((a, b) => a[0] - b[0])) {
    if (to <= above) continue
    const last = found.at(-1)
    if (last !== undefined && last[1] >= from) last[1] = Math.max(last[1], to)
    else found.push([from, to])
  }
  return found
}
