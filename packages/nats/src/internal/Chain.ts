/**
 * A list through its members, for what comes and goes all the time and is only looked at from its beginning: taking a
 * member out is cheap, allocates nothing, and leaves nothing that points to those that follow.
 */
export interface Link<T> {
  before: T | undefined
  after: T | undefined
}

export class Chain<T extends Link<T>> {
  size = 0
  first: T | undefined
  private last: T | undefined

  /** It must not be in the chain, nor in another one. */
  append(member: T): void {
    member.before = this.last
    if (this.last === undefined) this.first = member
    else this.last.after = member
    this.last = member
    this.size++
  }

  /** It must be in the chain. */
  remove(member: T): void {
    const { after, before } = member
    if (before === undefined) this.first = after
    else before.after = after
    if (after === undefined) this.last = before
    else after.before = before
    member.before = undefined
    member.after = undefined
    this.size--
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let member = this.first; member !== undefined; member = member.after) yield member
  }
}
