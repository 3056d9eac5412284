import type { Supervisor, Transport } from "@effect-eventbus/core"
import { Effect } from "effect"

/** A bug that is planted around the port, or around the mailboxes: nothing in the library has a switch for it. */
export interface Bug {
  readonly transport?: (inner: Transport.Service) => Transport.Service
  readonly supervisor?: (inner: Supervisor.Service) => Supervisor.Service
}

type Wrap = (
  assignment: Transport.Assignment,
  consumer: Transport.Consumer
) => Transport.Lane

const around = (wrap: Wrap): Bug => ({
  transport: (inner) => ({
    ...inner,
    subscribe: (request, consumer) =>
      inner.subscribe(
        request,
        request.semantics === "at-most-once" ? consumer : { assigned: (assignment) => wrap(assignment, consumer) }
      )
  })
})

const key = (message: Transport.IncomingMessage): string => String(message.key)

/** Commits what it has received, not what is finished. */
export const commitOnReceipt = around((assignment, consumer) => {
  const lane = consumer.assigned({ ...assignment, finish: () => {} })
  return {
    ...lane,
    offer: (messages) => {
      const taken = lane.offer(messages)
      for (const message of messages.slice(0, taken)) assignment.finish(message)
      return taken
    },
    close: (options) => lane.close(options)
  }
})

/** Gives a message back to the broker, and lets the ones behind it pass. */
export const nakPastFollowers = around((assignment, consumer) => {
  const lane = consumer.assigned(assignment)
  return {
    offer: (messages) => {
      const index = messages.findIndex((one, i) => messages.slice(i + 1).some((other) => key(other) === key(one)))
      if (index === -1) return lane.offer(messages)
      const passed = [...messages.slice(0, index), ...messages.slice(index + 1), messages[index]!]
      lane.offer(passed)
      return messages.length
    },
    close: (options) => lane.close(options)
  }
})

/** Takes partitions over while the one before still works: it does not wait until its lanes are closed. */
export const resumeWithoutFence = around((assignment, consumer) => {
  const lane = consumer.assigned(assignment)
  return {
    offer: (messages) => lane.offer(messages),
    close: (options) => Effect.as(Effect.forkDaemon(lane.close(options)), { unfinished: 0, lost: 0 })
  }
})

/** Delivers what is new before what is outstanding, after a take-over. */
export const newBeforeOutstanding = around((assignment, consumer) => {
  const lane = consumer.assigned(assignment)
  return {
    offer: (messages) => {
      const fresh = messages.filter(({ maybeDuplicate }) => !maybeDuplicate)
      if (fresh.length === 0 || fresh.length === messages.length) return lane.offer(messages)
      lane.offer([...fresh, ...messages.filter(({ maybeDuplicate }) => maybeDuplicate)])
      return messages.length
    },
    close: (options) => lane.close(options)
  }
})

/** What it received in an epoch that is over, it settles in the one of now, whoever has it. */
export const settleOldEpoch = (): Bug => {
  const current = new Map<string, Transport.Assignment>()
  return around((assignment, consumer) => {
    const place = `${assignment.topic} ${assignment.partition}`
    current.set(place, assignment)
    let held: Array<Transport.IncomingMessage> = []
    const lane = consumer.assigned(assignment)
    return {
      offer: (messages) => {
        const taken = lane.offer(messages)
        held = held.concat(messages.slice(0, taken))
        return taken
      },
      // At the end it commits its position, once the next one has the partition.
      close: (options) =>
        Effect.tap(lane.close(options), () =>
          Effect.forkDaemon(Effect.delay(
            Effect.sync(() => {
              const now = current.get(place)
              if (now !== undefined && now !== assignment) { for (const message of held) now.finish(message) }
            }),
            1
          )))
    }
  })
}

/** What a full mailbox has no room for is gone. */
export const dropOnFullMailbox = around((assignment, consumer) => {
  const lane = consumer.assigned(assignment)
  return {
    offer: (messages) => {
      lane.offer(messages)
      return messages.length
    },
    close: (options) => lane.close(options)
  }
})

/** An actor that is started again begins with the message after the one that it died of. */
export const restartLosesTheMessageInHand: Bug = {
  supervisor: (inner) => ({
    ...inner,
    start: (name, home, options) => {
      const slot = inner.start(name, home, options)
      const offer = slot.offer.bind(slot)
      slot.offer = (task, waiter) => {
        let isLost = false
        const faulty: Supervisor.Task = {
          home: task.home,
          run: (host) => isLost ? Effect.sync(() => task.interrupted()) : task.run(host),
          crashed: (cause, isRestarted) => {
            isLost = true
            return task.crashed(cause, isRestarted)
          },
          giveUp: (cause, host) => task.giveUp(cause, host),
          interrupted: () => task.interrupted(),
          left: () => task.left()
        }
        return offer(faulty, waiter)
      }
      return slot
    }
  })
}
