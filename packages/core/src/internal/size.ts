import type { IncomingMessage } from "../Transport.js"

/**
 * How many bytes a message keeps in memory.
 *
 * @internal
 */
export const sizeOf = (message: Pick<IncomingMessage, "key" | "value" | "headers">): number => {
  let size = (message.value === null ? 0 : message.value.length) + (message.key === null ? 0 : message.key.length)
  for (const name in message.headers) {
    const value = message.headers[name]
    // A user's own transport may hand over a null.
    if (value === undefined || value === null) continue
    size += name.length
    if (typeof value === "string" || value instanceof Uint8Array) size += value.length
    else for (const one of value) size += one.length
  }
  return size
}
