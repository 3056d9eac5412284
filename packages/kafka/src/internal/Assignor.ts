/**
 * Which member of a group gets which partitions: evenly, each only of topics
 * it subscribes to, and with as few moves as evenness allows. A partition that
 * moves is given to nobody until its owner has let go of it: the owner sees
 * that it isn't its any more, finishes what runs, commits and joins again, and only then the
 * next owner gets it (as in Kafka's cooperative protocol).
 */
export interface Member {
  readonly memberId: string
  readonly topics: ReadonlyArray<string>
  /** The generation in which it got what it owns; of two that claim a partition, the later one has it. */
  readonly generation: number
  readonly owned: ReadonlyMap<string, ReadonlyArray<number>>
  /** The group was new when it came, or when somebody came who was there when it came: where it has no position, it never had one. */
  readonly isNew: boolean
}

/** By member, by topic. */
export type Assignments = ReadonlyMap<string, ReadonlyMap<string, ReadonlyArray<number>>>

export const assign = (
  members: ReadonlyArray<Member>,
  partitions: ReadonlyMap<string, number>
): Assignments => {
  const assignments = new Map(members.map(({ memberId }) => [memberId, new Map<string, Array<number>>()]))
  const load = new Map(members.map(({ memberId }) => [memberId, 0]))
  for (const topic of [...partitions.keys()].sort()) {
    const subscribed = members.filter(({ topics }) => topics.includes(topic))
    if (subscribed.length === 0) continue
    const owners = ownersOf(topic, members)
    const targets = balance(partitions.get(topic)!, subscribed, owners, load)
    targets.forEach((target, partition) => {
      load.set(target, load.get(target)! + 1)
      const owner = owners.get(partition)
      if (owner !== undefined && owner !== target) return
      const topics = assignments.get(target)!
      topics.set(topic, [...topics.get(topic) ?? [], partition])
    })
  }
  return assignments
}

const ownersOf = (topic: string, members: ReadonlyArray<Member>): ReadonlyMap<number, string> => {
  const owners = new Map<number, Member>()
  for (const member of members) {
    for (const partition of member.owned.get(topic) ?? []) {
      const other = owners.get(partition)
      if (other === undefined || other.generation < member.generation) owners.set(partition, member)
    }
  }
  return new Map(Array.from(owners, ([partition, { memberId }]) => [partition, memberId]))
}

/** The member for each partition of a topic. */
const balance = (
  count: number,
  subscribed: ReadonlyArray<Member>,
  owners: ReadonlyMap<number, string>,
  load: ReadonlyMap<string, number>
): ReadonlyArray<string> => {
  const least = Math.floor(count / subscribed.length)
  let more = count % subscribed.length
  const owns = (id: string): ReadonlyArray<number> =>
    Array.from({ length: count }, (_, partition) => partition).filter((partition) => owners.get(partition) === id)
  // Those who have more of this topic keep one more of it; among equals, those who have less of other topics.
  const order = subscribed.map(({ memberId }) => memberId).sort((a, b) =>
    owns(b).length - owns(a).length || load.get(a)! - load.get(b)! || (a < b ? -1 : 1)
  )
  const targets: Array<string | undefined> = new Array(count).fill(undefined)
  const room = new Map<string, number>()
  for (const id of order) {
    const quota = least + (more-- > 0 ? 1 : 0)
    const kept = owns(id).slice(0, quota)
    for (const partition of kept) targets[partition] = id
    room.set(id, quota - kept.length)
  }
  const free = order.flatMap((id) => new Array<string>(room.get(id)!).fill(id))
  return targets.map((target) => target ?? free.shift()!)
}
