/**
 * Which partitions an instance should give away, and which free ones it should
 * take. All instances decide this by themselves, from the same keys: they agree as soon as they see the same, and
 * where they don't yet, the revision of a partition's key lets one of them have it.
 */

export interface Input {
  readonly me: string
  /** Those alive that take partitions, this one included if it does. */
  readonly members: ReadonlyArray<string>
  /** Who has which partition; undefined where nobody has. */
  readonly owners: ReadonlyArray<string | undefined>
}

export interface Decision {
  readonly release: ReadonlyArray<number>
  readonly acquire: ReadonlyArray<number>
}

/**
 * Each gets the same number, and the first of them one more where that leaves a rest: first those that have more, so that
 * as few as possible move.
 */
export const decide = ({ me, members, owners }: Input): Decision => {
  const counts = new Map(members.map((member) => [member, 0]))
  for (const owner of owners) {
    const count = owner === undefined ? undefined : counts.get(owner)
    if (count !== undefined) counts.set(owner!, count + 1)
  }
  const sorted = Array.from(counts).sort(([a, i], [b, j]) => j - i || (a < b ? -1 : 1))
  const even = Math.floor(owners.length / members.length)
  const rest = owners.length % members.length
  const free = owners.flatMap((owner, partition) => owner === undefined ? [partition] : [])
  let from = 0
  for (const [index, [member, count]] of sorted.entries()) {
    const quota = even + (index < rest ? 1 : 0)
    const missing = Math.max(0, quota - count)
    if (member === me) {
      return {
        acquire: free.slice(from, from + missing),
        release: count <= quota
          ? []
          : owners.flatMap((owner, partition) => owner === me ? [partition] : []).slice(quota)
      }
    }
    from += missing
  }
  // An instance that leaves gives back what it has when it is done with it.
  return { acquire: [], release: [] }
}
