/**
 * Fetches for all subscriptions of a transport. Each broker has two connections for
 * it, however many subscriptions there are: brokers answer the requests of a connection one
 * after the other, and a fetch waits at the broker until something comes. While
 * one waits for partitions that have nothing, the other fetches from those that
 * have room again meanwhile, and waits only shortly, so that nobody waits long for his turn.
 *
 * A request can't name a partition twice, so subscriptions of the same topic have
 * pairs of connections of their own.
 */
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import { backoff } from "./backoff.js"
import type { Client } from "./Client.js"
import type { KafkaFailure } from "./Failure.js"
import { failure } from "./Failure.js"
import { FetchSession } from "./FetchSession.js"
import { monotonic } from "./monotonic.js"
import type { Partition } from "./Partition.js"
import type { FetchedPartition, FetchResponse } from "./records.js"
import { bytesOf } from "./records.js"
import { Signal } from "./Signal.js"

/** A subscription. What it does is synchronous; where it throws, it is left out for a while. */
export interface Member {
  readonly topic: string
  /** Its partitions that a broker leads and that can be fetched from now. */
  readonly ready: (node: number) => ReadonlyArray<Partition>
  /** What came of a partition that was asked for, from where it still is. */
  readonly received: (partition: Partition, fetched: FetchedPartition) => void
  /** These were asked for, and the broker has answered without an error of theirs. */
  readonly worked: (partitions: ReadonlyArray<Partition>) => void
  /** These were asked for, and nothing came. */
  readonly failed: (partitions: ReadonlyArray<Partition>, error: KafkaFailure) => void
}

export interface Membership {
  /** Something can be fetched from this broker that could not before. */
  readonly wake: (node: number) => void
  /** Afterwards the member is not called any more. */
  readonly leave: Effect.Effect<void>
}

export interface FetchPool {
  readonly join: (member: Member) => Membership
}

/** One connection to a broker, and what it does. */
interface Line {
  readonly role: string
  readonly signal: Signal
  readonly session: FetchSession
  /** What it waits for: something to fetch, a broker's answer for long or for short, or that the other comes back. */
  state: "idle" | "long" | "short" | "joining"
  /** So often in a row nothing came. */
  quiet: number
  /** So often in a row nothing came, and that was said at once instead of waiting for it. */
  hasty: number
}

interface Channel {
  readonly node: number
  readonly slot: Slot
  readonly lines: readonly [Line, Line]
  /** Its last subscription has left: who comes now has others, and nothing more is asked for here. */
  isClosed: boolean
}

/** Subscriptions that are fetched for together: no two of the same topic. */
interface Slot {
  readonly id: number
  readonly members: Set<Member>
  readonly channels: Map<number, Channel>
}

/** How long the broker waits on the second connection. A partition that has room again waits at most so long for its turn. */
const SHORT_WAIT_MS = 20
/** After so many short waits without anything its partitions go to the first one again. */
const QUIET_WAITS = 5
/** A mistake that comes again and again is said the first time, and so often. */
const SAID_EACH = 60
/** A broker that does not wait for messages is not asked without a pause; some answers come at once, for good reasons. */
const HASTY_ANSWERS = 10
const sessionErrors = new Set([
  "FETCH_SESSION_ID_NOT_FOUND",
  "INVALID_FETCH_SESSION_EPOCH",
  "FETCH_SESSION_TOPIC_ID_ERROR"
])

export const make = (client: Client, settings: Settings): Effect.Effect<FetchPool, never, Scope.Scope> =>
  Effect.gen(function*() {
    const now = monotonic(yield* Effect.clock)
    const loops = yield* FiberMap.make<string>()
    const run = yield* FiberMap.runtime(loops)<never>()
    const fork = yield* FiberSet.makeRuntime<never>()
    const slots: Array<Slot> = []
    /** Those that are left out for a while. */
    const resting = new Set<Member>()
    const mistakes = new WeakMap<Member, number>()
    let turn = 0
    let serial = 0

    /** A connection that is being closed is never taken for one that is used. */
    const lineOf = (slot: Slot): Line => ({
      role: `fetch-${slot.id}-${serial++}`,
      signal: new Signal(),
      session: new FetchSession(),
      state: "idle",
      quiet: 0,
      hasty: 0
    })

    const channelOf = (slot: Slot, node: number): Channel => {
      const known = slot.channels.get(node)
      if (known !== undefined) return known
      const channel: Channel = { node, slot, lines: [lineOf(slot), lineOf(slot)], isClosed: false }
      slot.channels.set(node, channel)
      const [first, second] = channel.lines
      run(first.role, loop(channel, first, second))
      run(second.role, loop(channel, second, first))
      return channel
    }

    const wake = (slot: Slot, node: number): void => {
      const { lines: [first, second] } = channelOf(slot, node)
      if (first.state === "idle") first.signal.notify()
      else if (second.state === "idle") second.signal.notify()
      // Otherwise whichever comes back first looks for it.
    }

    /** A mistake of ours in one subscription must not end the fetching of the others. */
    const guarded = <A>({ node, slot }: Channel, member: Member, act: () => A): A | undefined => {
      try {
        return act()
      } catch (defect) {
        if (resting.has(member)) return undefined
        resting.add(member)
        const before = mistakes.get(member) ?? 0
        mistakes.set(member, before + 1)
        fork(
          Effect.logError("Fetching broke down", defect).pipe(
            Effect.annotateLogs({ module: "KafkaConsumer", broker: node, topic: member.topic }),
            Effect.when(() => before % SAID_EACH === 0),
            Effect.zipRight(Effect.sleep(backoff(Infinity))),
            Effect.zipRight(Effect.sync(() => {
              resting.delete(member)
              if (slot.members.has(member)) { for (const node of slot.channels.keys()) wake(slot, node) }
            }))
          )
        )
        return undefined
      }
    }

    const ready = (channel: Channel): ReadonlyArray<Ready> => {
      const found: Array<Ready> = []
      for (const member of channel.slot.members) {
        if (resting.has(member)) continue
        for (const partition of guarded(channel, member, () => member.ready(channel.node)) ?? []) {
          if (!partition.isAsked) found.push({ member, partition })
        }
      }
      return found
    }

    const loop = (channel: Channel, line: Line, other: Line): Effect.Effect<void> =>
      Effect.gen(function*() {
        while (!channel.isClosed) {
          // The other one waits for this one, to take all partitions.
          const wanted = other.state === "joining" ? [] : ready(channel)
          if (wanted.length === 0) {
            line.state = "idle"
            if (other.state === "joining") other.signal.notify()
            yield* line.signal.wait
            continue
          }
          line.state = other.state === "long" ? "short" : "long"
          const isLong = line.state === "long"
          const maxWait = isLong ? settings.fetchMaxWait : SHORT_WAIT_MS
          const askedAt = now()
          const isEmpty = yield* fetch(channel, line, wanted, maxWait)
          line.hasty = isEmpty && now() - askedAt < maxWait / 2 ? line.hasty + 1 : 0
          if (line.hasty > HASTY_ANSWERS) yield* Effect.sleep(SHORT_WAIT_MS)
          line.quiet = isEmpty ? line.quiet + 1 : 0
          if (!isLong || other.state !== "short" || !(isEmpty || other.quiet >= QUIET_WAITS)) continue
          line.state = "joining"
          while (stateOf(other) === "short") yield* line.signal.wait
        }
      }).pipe(
        // A mistake of ours must not end the loop that all members share.
        Effect.catchAllDefect((defect) =>
          Effect.logError("Fetching broke down", defect).pipe(
            Effect.zipRight(Effect.sync(() => line.session.lost())),
            Effect.zipRight(Effect.sleep(backoff(Infinity))),
            Effect.zipRight(Effect.suspend(() => loop(channel, line, other)))
          )
        ),
        Effect.annotateLogs({ module: "KafkaConsumer", broker: channel.node })
      )

    /** Answers whether nothing came. */
    const fetch = (
      channel: Channel,
      { role, session }: Line,
      wanted: ReadonlyArray<Ready>,
      maxWaitTime: number
    ): Effect.Effect<boolean> =>
      Effect.suspend(() => {
        for (const { partition } of wanted) partition.isAsked = true
        return client.call(channel.node, role, "Fetch", {
          maxWaitTime,
          minBytes: 1,
          maxBytes: settings.fetchBytes,
          rack: settings.rack,
          ...session.next(
            rotated(wanted, turn++).map(({ partition }) => ({
              topic: partition.options.topic,
              partition: partition.id,
              currentLeaderEpoch: partition.leaderEpoch,
              fetchOffset: partition.fetchOffset,
              maxBytes: bytesOf(settings.fetchPartitionBytes, partition.fetchFactor)
            }))
          )
        }, maxWaitTime + settings.requestTimeout)
      }).pipe(
        Effect.filterOrElse(
          ({ errorCode }) => errorCode === 0,
          ({ errorCode }) => Effect.fail(failure("Fetch", errorCode))
        ),
        Effect.match({
          onFailure: (error) => {
            const isKnown = session.isOpen
            session.lost()
            // The broker had no room for the session any more: nothing is wrong.
            if (!(isKnown && sessionErrors.has(error.type))) {
              for (const [member, partitions] of byMember(wanted)) {
                if (isMember(member)) guarded(channel, member, () => member.failed(partitions, error))
              }
            }
            return { isEmpty: true, throttleMs: 0 }
          },
          onSuccess: (response) => {
            session.accepted(response)
            deliver(channel, session, wanted, response)
            const isEmpty = response.partitions.every(({ errorCode, records }) =>
              errorCode === 0 && records.length === 0
            )
            return { isEmpty, throttleMs: response.throttleMs }
          }
        }),
        // A quota: what is sent sooner would only wait at the broker.
        Effect.tap(({ throttleMs }) => throttleMs > 0 ? Effect.sleep(throttleMs) : Effect.void),
        Effect.map(({ isEmpty }) => isEmpty),
        Effect.ensuring(Effect.sync(() => {
          for (const { partition } of wanted) partition.isAsked = false
        }))
      )

    const deliver = (
      channel: Channel,
      session: FetchSession,
      wanted: ReadonlyArray<Ready>,
      { partitions }: FetchResponse
    ): void => {
      const asked = new Map(wanted.map((one) => [keyOf(one.partition.options.topic, one.partition.id), one]))
      for (const fetched of partitions) {
        const one = asked.get(keyOf(fetched.topic, fetched.partition))
        if (one === undefined || !isMember(one.member)) continue
        if (session.offsetOf(fetched.topic, fetched.partition) !== one.partition.fetchOffset) continue
        if (fetched.errorCode !== 0) asked.delete(keyOf(fetched.topic, fetched.partition))
        guarded(channel, one.member, () => one.member.received(one.partition, fetched))
      }
      for (const [member, all] of byMember([...asked.values()])) {
        if (isMember(member)) {
          guarded(channel, member, () => member.worked(all))
        }
      }
    }

    const isMember = (member: Member): boolean => slots.some(({ members }) => members.has(member))

    /** Runs to its end, even if the member that leaves does not wait for it: nobody else knows of these connections any more. */
    const close = (slot: Slot): Effect.Effect<void> =>
      Effect.suspend(() => {
        const channels = [...slot.channels.values()]
        // A member that joins meanwhile gets new connections.
        slot.channels.clear()
        for (const channel of channels) channel.isClosed = true
        return Effect.forEach(
          channels.flatMap(({ lines }) => lines),
          ({ role }) => Effect.zipRight(FiberMap.remove(loops, role), client.release(role)),
          { concurrency: "unbounded", discard: true }
        )
      }).pipe(Effect.uninterruptible)

    const join: FetchPool["join"] = (member) => {
      let slot = slots.find(({ members }) => !Array.from(members).some(({ topic }) => topic === member.topic))
      if (slot === undefined) slots.push(slot = { id: slots.length, members: new Set(), channels: new Map() })
      const own = slot
      own.members.add(member)
      return {
        wake: (node) => {
          if (own.members.has(member)) wake(own, node)
        },
        leave: Effect.suspend(() => {
          own.members.delete(member)
          return own.members.size === 0 ? close(own) : Effect.void
        })
      }
    }

    return { join }
  })

interface Ready {
  readonly member: Member
  readonly partition: Partition
}

const keyOf = (topic: string, partition: number): string => `${topic}/${partition}`

/** It changes while somebody waits. */
const stateOf = (line: Line): Line["state"] => line.state

const byMember = (all: ReadonlyArray<Ready>): ReadonlyMap<Member, ReadonlyArray<Partition>> => {
  const found = new Map<Member, Array<Partition>>()
  for (const { member, partition } of all) {
    const own = found.get(member)
    if (own === undefined) found.set(member, [partition])
    else own.push(partition)
  }
  return found
}

/** Brokers fill a response in the order of the request: each partition is first in turn. */
const rotated = (ready: ReadonlyArray<Ready>, turn: number): ReadonlyArray<Ready> => {
  const first = turn % ready.length
  return [...ready.slice(first), ...ready.slice(0, first)]
}
