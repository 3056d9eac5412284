import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { Quota, type Share, Waiter } from "../src/internal/quota.js"

interface User {
  readonly share: Share
  readonly waiter: Waiter
  /** What it has asked for and waits for. */
  wants: number
  held: Array<number>
  woken: number
  /** When it began to wait. */
  since: number
}

type Step =
  | { readonly _tag: "take"; readonly user: number; readonly amount: number }
  | { readonly _tag: "give"; readonly user: number }
  | { readonly _tag: "cancel"; readonly user: number }
  | { readonly _tag: "end"; readonly user: number }
  | { readonly _tag: "join" }

const step = (max: number): FastCheck.Arbitrary<Step> => {
  const user = FastCheck.nat({ max: 5 })
  return FastCheck.oneof(
    {
      weight: 6,
      arbitrary: FastCheck.record({
        _tag: FastCheck.constant("take" as const),
        user,
        amount: FastCheck.oneof(
          { weight: 4, arbitrary: FastCheck.integer({ min: 1, max: Math.max(1, Math.floor(max / 4)) }) },
          FastCheck.integer({ min: 1, max: max + 3 })
        )
      })
    },
    { weight: 5, arbitrary: FastCheck.record({ _tag: FastCheck.constant("give" as const), user }) },
    { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("cancel" as const), user }) },
    { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("end" as const), user }) },
    { weight: 1, arbitrary: FastCheck.constant({ _tag: "join" as const }) }
  )
}

/** A quota whose users do what a plan says: one waiter each, one amount at a time. */
class World {
  readonly users: Array<User> = []
  readonly told: Array<boolean> = []
  readonly quota: Quota
  private clock = 0

  constructor(readonly max: number, users: number) {
    this.quota = new Quota(max, (isReached) => this.told.push(isReached))
    for (let i = 0; i < users; i++) this.join()
  }

  join(): void {
    if (this.users.length >= 6) return
    const user: User = {
      share: this.quota.share(),
      waiter: new Waiter(() => {
        user.woken++
        expect(user.waiter.granted).toBe(user.wants)
      }),
      wants: 0,
      held: [],
      woken: 0,
      since: 0
    }
    this.users.push(user)
  }

  run(step: Step): void {
    if (step._tag === "join") return this.join()
    const user = this.users[step.user % this.users.length]!
    if (user.share.isEnded) return
    switch (step._tag) {
      case "take": {
        // Who waits asks again when it is woken; before that it asks for the same.
        const amount = user.wants === 0 ? step.amount : user.wants
        const wasWaiting = user.wants > 0
        if (user.share.take(amount, user.waiter)) {
          user.held.push(amount)
          user.wants = 0
        } else {
          if (!wasWaiting) user.since = ++this.clock
          user.wants = amount
        }
        return
      }
      case "give": {
        const amount = user.held.pop()
        if (amount !== undefined) user.share.give(amount)
        return
      }
      case "cancel": {
        user.wants = 0
        return user.share.cancel(user.waiter)
      }
      case "end": {
        user.wants = 0
        user.share.cancel(user.waiter)
        return user.share.end()
      }
    }
  }

  /** What is held, and what is reserved and not yet taken. */
  sumOf(user: User): number {
    return user.held.reduce((sum, one) => sum + one, 0) + user.waiter.granted
  }

  get waiting(): ReadonlyArray<User> {
    return this.users.filter((user) => user.wants > 0 && user.waiter.granted === 0).sort((a, b) => a.since - b.since)
  }

  get minimum(): number {
    const shares = this.users.filter(({ share }) => !share.isEnded).length
    return shares === 0 ? 0 : Math.floor(this.max / 4 / shares)
  }

  check(): void {
    const { max, quota } = this
    const sums = this.users.map((user) => this.sumOf(user))
    const sum = sums.reduce((all, one) => all + one, 0)
    expect(quota.used).toBe(sum)
    expect(this.users.map(({ share }) => share.used)).toEqual(sums)
    if (sum > max) expect(sums.filter((one) => one > 0)).toEqual([sum])
    expect(quota.waiting).toBe(this.waiting.length)
    expect(this.told.at(-1) ?? false).toBe(quota.waiting > 0)
    this.told.forEach((isReached, i) => expect(isReached).toBe(i % 2 === 0))
    this.checkFirst()
    this.checkMinimum()
  }

  /** What the others have not used of their minimum is all that may be kept from whoever waits first. */
  private checkFirst(): void {
    const [first] = this.waiting
    if (first === undefined) return
    const free = this.max - this.quota.used
    const shares = this.users.filter(({ share }) => !share.isEnded)
    const isPassable = first.wants <= this.max - this.minimum * shares.length
    const kept = isPassable
      ? shares.reduce((sum, { share }) => sum + (share === first.share ? 0 : Math.max(0, this.minimum - share.used)), 0)
      : 0
    expect(this.quota.used).toBeGreaterThan(0)
    expect(first.wants).toBeGreaterThan(free - kept)
  }

  /** Who stays within its minimum share never waits, but behind one that needs the whole bound. */
  private checkMinimum(): void {
    const [first] = this.waiting
    const shares = this.users.filter(({ share }) => !share.isEnded)
    if (first !== undefined && first.wants > this.max - this.minimum * shares.length) return
    const free = this.max - this.quota.used
    for (const user of this.waiting) {
      expect(user.wants > Math.min(free, Math.max(0, this.minimum - user.share.used))).toBe(true)
    }
  }
}

describe("a quota", () => {
  it("never exceeds its bound, forgets nobody, and counts what is held", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.integer({ min: 1, max: 40 }).chain((max) =>
          FastCheck.record({
            max: FastCheck.constant(max),
            users: FastCheck.integer({ min: 1, max: 4 }),
            steps: FastCheck.array(step(max), { maxLength: 80 })
          })
        ),
        ({ max, steps, users }) => {
          const world = new World(max, users)
          for (const one of steps) {
            world.run(one)
            world.check()
          }
        }
      ),
      { numRuns: 3_000 }
    )
  })

  it("serves in the order in which its users came, where nobody has a minimum share", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(FastCheck.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 20 }),
        (amounts) => {
          const quota = new Quota(3)
          const holder = quota.share()
          const served: Array<number> = []
          const users = amounts.map((amount, i) => ({
            amount,
            share: quota.share(),
            waiter: new Waiter(() => served.push(i))
          }))
          expect(holder.take(3, new Waiter(() => {}))).toBe(true)
          for (const { amount, share, waiter } of users) expect(share.take(amount, waiter)).toBe(false)
          holder.give(3)
          for (let i = 0; i < users.length; i++) {
            const { amount, share, waiter } = users[i]!
            expect(served.slice(0, i + 1)).toEqual(Array.from({ length: i + 1 }, (_, n) => n))
            expect(share.take(amount, waiter)).toBe(true)
            share.give(amount)
          }
          expect(quota.used).toBe(0)
        }
      )
    )
  })

  it("lets users take turns, however many waiters one of them has", () => {
    const quota = new Quota(1)
    const a = quota.share()
    const b = quota.share()
    const served: Array<string> = []
    expect(a.take(1, new Waiter(() => {}))).toBe(true)
    for (let i = 0; i < 100; i++) expect(a.take(1, new Waiter(() => served.push("a")))).toBe(false)
    for (let i = 0; i < 3; i++) expect(b.take(1, new Waiter(() => served.push("b")))).toBe(false)
    let holder = a
    for (let i = 0; i < 6; i++) {
      holder.give(1)
      holder = served.at(-1) === "a" ? a : b
    }
    expect(served).toEqual(["a", "b", "a", "b", "a", "b"])
  })

  it("gives a large amount its turn behind a small one that is never given back", () => {
    const quota = new Quota(64)
    const shares = Array.from({ length: 4 }, () => quota.share())
    const waiter = new Waiter(() => {})
    expect(shares[0]!.take(1, new Waiter(() => {}))).toBe(true)
    expect(shares[2]!.take(8, new Waiter(() => {}))).toBe(true)
    expect(shares[1]!.take(60, waiter)).toBe(false)
    // Nobody passes it, so nothing is kept for others.
    expect(shares[3]!.take(1, new Waiter(() => {}))).toBe(false)
    shares[2]!.give(8)
    expect(waiter.granted).toBe(60)
  })
})
