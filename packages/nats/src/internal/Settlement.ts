/**
 * Settling before handling: each message is acknowledged with an answer of its
 * own, and only when all have come is anything handled.
 */
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { Connection } from "./Connection.js"
import type { Held, Intake } from "./Intake.js"
import { isNoResponders } from "./Replies.js"

/** How long the server may take to confirm, all attempts together. */
const deadline = 5_000
const attemptTimeout = 1_000

const ack = new TextEncoder().encode("+ACK")

export const settle = (
  connection: Connection,
  intake: Intake,
  topic: string,
  partition: number,
  messages: ReadonlyArray<IncomingMessage>
): Effect.Effect<void, SettlementFailed> =>
  Effect.async((resume) => {
    const waiting = new Map<Held, number | undefined>()
    const end = (result: Effect.Effect<void, SettlementFailed>) => {
      clearInterval(attempts)
      clearTimeout(timer)
      connection.listeners.delete(listener)
      forgetReplies()
      resume(result)
    }
    const fail = (cause: string, isRetryable: boolean) =>
      end(Effect.fail(new SettlementFailed({ topic, partition, isRetryable, cause })))
    const forgetReplies = () => {
      for (const token of waiting.values()) if (token !== undefined) connection.replies.forget(token)
    }
    const attempt = () => {
      if (!connection.isUp()) return
      for (const [held, expected] of waiting) {
        // An answer to an earlier attempt is as good, and may be on its way.
        const token = expected ?? connection.replies.expect({
          onReply: (answer) => {
            if (answer === undefined) return fail("the connection is closed", false)
            if (isNoResponders(answer)) return fail("the consumer is not there", true)
            intake.forget(held)
            waiting.delete(held)
            if (waiting.size === 0) end(Effect.void)
          }
        })
        waiting.set(held, token)
        try {
          connection.client.publish(held.reply, ack, { reply: connection.replies.subject(token) })
        } catch {
          return fail("the connection is closed", false)
        }
      }
    }
    const listener = { onReconnect: attempt }
    const attempts = setInterval(attempt, attemptTimeout)
    const timer = setTimeout(
      () => fail(`${waiting.size} of ${messages.length} were not confirmed in time`, true),
      deadline
    )
    for (const message of messages) {
      const held = intake.held.get(message.offset)
      if (held !== undefined) waiting.set(held, undefined)
      else if (!intake.finished.has(message.offset)) return fail(`message ${message.offset} is not in hand here`, false)
    }
    if (waiting.size === 0) return end(Effect.void)
    connection.listeners.add(listener)
    attempt()
    return Effect.sync(() => {
      clearInterval(attempts)
      clearTimeout(timer)
      connection.listeners.delete(listener)
      forgetReplies()
    })
  })
