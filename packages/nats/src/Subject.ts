/**
 * How topics and groups are named on the NATS side, and back.
 *
 * - The **subject** of a topic is the topic itself: `orders`, `shop.orders`.
 * - The **stream** of a topic is the topic with `.` written as `~`, and every character that is not a letter, a digit,
 *   `-` or `_` written as `=XX` for each of its UTF-8 bytes: `shop.orders` lives in the stream `shop~orders`.
 *   A stream that was made by others and already holds the subject is used under its own name.
 * - The **durable consumer** of a subscription is group, `@`, topic, both written as above: `billing@shop~orders`.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"

/** What JetStream takes as the name of a stream or consumer. */
const maxNameLength = 255

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/**
 * The subject of a topic, or what is wrong with it. Wildcards are for reading, and subjects that begin with `$` or
 * `_INBOX` belong to the server.
 *
 * @since 0.1.0
 * @category names
 */
export const fromTopic = (topic: string): Either.Either<string, string> => {
  // eslint-disable-next-line no-control-regex
  if (/[\s\u0000-\u001f\u007f]/.test(topic)) {
    return Either.left(`topic "${topic}" has white space or control characters`)
  }
  if (topic.split(".").some((token) => token === "")) {
    return Either.left(`topic "${topic}" has an empty part: a NATS subject is words separated by single dots`)
  }
  if (/[*>]/.test(topic)) return Either.left(`topic "${topic}" has a wildcard`)
  if (/^(\$|_INBOX(\.|$))/.test(topic)) return Either.left(`topic "${topic}" is reserved for the server`)
  if (toStream(topic).length > maxNameLength) {
    return Either.left(`topic "${topic}" makes a stream name of more than ${maxNameLength} characters`)
  }
  return Either.right(topic)
}

/**
 * The name of a topic's stream.
 *
 * @since 0.1.0
 * @category names
 */
export const toStream = (topic: string): string => escape(topic)

/**
 * The topic of a stream that this transport made; undefined for other names.
 *
 * @since 0.1.0
 * @category names
 */
export const fromStream = (stream: string): string | undefined => unescape(stream)

/**
 * The name of a subscription's durable consumer, or what is wrong with it.
 *
 * @since 0.1.0
 * @category names
 */
export const toDurable = (group: string, topic: string): Either.Either<string, string> => {
  if (group.trim() === "") return Either.left(`the group of topic "${topic}" is blank`)
  const name = `${escape(group)}@${escape(topic)}`
  return name.length > maxNameLength
    ? Either.left(`group "${group}" and topic "${topic}" make a consumer name of more than ${maxNameLength} characters`)
    : Either.right(name)
}

/**
 * Group and topic of a durable consumer that this transport made; undefined for other names.
 *
 * @since 0.1.0
 * @category names
 */
export const fromDurable = (durable: string): { readonly group: string; readonly topic: string } | undefined => {
  const at = durable.indexOf("@")
  if (at === -1) return undefined
  const group = unescape(durable.slice(0, at))
  const topic = unescape(durable.slice(at + 1))
  return group === undefined || topic === undefined ? undefined : { group, topic }
}

const escape = (text: string): string => {
  let escaped = ""
  for (const character of text) {
    if (/[A-Za-z0-9_-]/.test(character)) escaped += character
    else if (character === ".") escaped += "~"
    else for (const byte of encoder.encode(character)) escaped += `=${byte.toString(16).toUpperCase().padStart(2, "0")}`
  }
  return escaped
}

const unescape = (name: string): string | undefined => {
  if (!/^(?:[A-Za-z0-9_~-]|=[0-9A-F]{2})*$/.test(name)) return undefined
  const bytes: Array<number> = []
  for (let i = 0; i < name.length; i++) {
    if (name[i] === "=") {
      bytes.push(parseInt(name.slice(i + 1, i + 3), 16))
      i += 2
    } else bytes.push(name[i] === "~" ? 46 : name.charCodeAt(i))
  }
  return Either.getOrUndefined(Either.try(() => decoder.decode(Uint8Array.from(bytes))))
}
