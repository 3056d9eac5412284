/**
 * How topics and groups are named on the NATS side, and back.
 *
 * - The **subject** of a topic is the topic itself: `orders`, `shop.orders`.
 * - The **stream** of a topic is the topic with `.` written as `~`, and every character that is not a letter, a digit,
 *   `-` or `_` written as `=XX` for each of its UTF-8 bytes: `shop.orders` lives in the stream `shop~orders`.
 *   A stream that was made by others and already holds the subject is used under its own name.
 *   Topics that share a stream are in the one of their pattern: `orders.>` lives in `orders~=3E`.
 * - The **durable consumer** of a subscription is group, `@`, topic, both written as above: `billing@shop~orders`.
 * - A topic with **partitions** has the subjects `<topic>.<partition>.<aggregate id>`, the id as one token: `shop.orders.3.order:1~a` is
 *   that of `order:1.a`. Its stream holds `<topic>.*.*`, and each partition has a durable consumer: `billing@shop~orders@3`.
 *   The partition is a hash of the aggregate id's UTF-8 bytes, by the `Partitioner` of the topic.
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
export const fromTopic = (topic: string): Either.Either<string, string> =>
  Either.filterOrLeft(
    toFilter(topic),
    () => !isPattern(topic),
    () => `topic "${topic}" has a wildcard, which is for subscriptions`
  )

/**
 * What a subscription to a topic reads, or what is wrong with it: a subject, in which `*` can stand for one word and `>`
 * for one or more at the end.
 *
 * @since 0.1.0
 * @category names
 */
export const toFilter = (topic: string): Either.Either<string, string> => {
  // eslint-disable-next-line no-control-regex
  if (/[\s\u0000-\u001f\u007f]/.test(topic)) {
    return Either.left(`topic "${topic}" has white space or control characters`)
  }
  if (topic.split(".").some((token) => token === "")) {
    return Either.left(`topic "${topic}" has an empty part: a NATS subject is words separated by single dots`)
  }
  const words = topic.split(".")
  if (words.some((word, i) => /[*>]/.test(word) && word !== "*" && !(word === ">" && i === words.length - 1))) {
    return Either.left(`topic "${topic}" has a wildcard that is not a word by itself, or ">" before its end`)
  }
  if (/^(\$|_INBOX(\.|$))/.test(topic)) return Either.left(`topic "${topic}" is reserved for the server`)
  if (toStream(topic).length > maxNameLength) {
    return Either.left(`topic "${topic}" makes a stream name of more than ${maxNameLength} characters`)
  }
  return Either.right(topic)
}

/**
 * Whether a subject has wildcards.
 *
 * @since 0.1.0
 * @category names
 */
export const isPattern = (subject: string): boolean => /[*>]/.test(subject)

/**
 * Whether all subjects of one pattern are subjects of the other.
 *
 * @since 0.1.0
 * @category names
 */
export const covers = (pattern: string, subject: string): boolean => {
  const wide = pattern.split(".")
  const narrow = subject.split(".")
  for (let i = 0; i < wide.length; i++) {
    if (wide[i] === ">") return narrow.length > i
    if (narrow[i] === undefined || narrow[i] === ">") return false
    if (wide[i] !== "*" && wide[i] !== narrow[i]) return false
  }
  return narrow.length === wide.length
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
 * The name of the durable consumer of a subscription, or of one of its partitions, or what is wrong with it.
 *
 * @since 0.1.0
 * @category names
 */
export const toDurable = (group: string, topic: string, partition?: number): Either.Either<string, string> => {
  if (group.trim() === "") return Either.left(`the group of topic "${topic}" is blank`)
  const name = `${escape(group)}@${escape(topic)}${partition === undefined ? "" : `@${partition}`}`
  return name.length > maxNameLength
    ? Either.left(`group "${group}" and topic "${topic}" make a consumer name of more than ${maxNameLength} characters`)
    : Either.right(name)
}

/**
 * Group, topic and partition of a durable consumer that this transport made; undefined for other names.
 *
 * @since 0.1.0
 * @category names
 */
export const fromDurable = (
  durable: string
): { readonly group: string; readonly topic: string; readonly partition?: number } | undefined => {
  const [first, second, third, ...rest] = durable.split("@")
  if (first === undefined || second === undefined || rest.length > 0) return undefined
  const group = unescape(first)
  const topic = unescape(second)
  if (group === undefined || topic === undefined) return undefined
  if (third === undefined) return { group, topic }
  return /^(0|[1-9]\d*)$/.test(third) ? { group, topic, partition: Number(third) } : undefined
}

/**
 * The beginning of the keys of a group's leases on a topic. Keys take no `~`, so that `.` is written as its byte, too.
 *
 * @since 0.1.0
 * @category names
 */
export const toLease = (group: string, topic: string): string =>
  `${escape(group)}.${escape(topic)}`.replaceAll("~", "=2E")

/**
 * What the stream of a topic with partitions holds.
 *
 * @since 0.1.0
 * @category partitions
 */
export const ofPartitions = (topic: string): string => `${topic}.*.*`

/**
 * All subjects of one partition.
 *
 * @since 0.1.0
 * @category partitions
 */
export const ofPartition = (topic: string, partition: number): string => `${topic}.${partition}.*`

/** The last token of what has no aggregate id; no id is written so. */
const nobody = "="

/**
 * Where a message of an aggregate is published, or one without an aggregate id. The id keeps letters, digits, `-`, `_`, `:` and `/`;
 * `.` becomes `~`, and every other character `=XX` for each of its UTF-8 bytes. Without an id the token is `=`.
 *
 * @since 0.1.0
 * @category partitions
 */
export const ofAggregate = (topic: string, partition: number, aggregateId: string | undefined): string =>
  `${topic}.${partition}.${aggregateId === undefined || aggregateId === "" ? nobody : escape(aggregateId, tokenKeeps)}`

/**
 * What `ofAggregate` was given; undefined for other subjects.
 *
 * @since 0.1.0
 * @category partitions
 */
export const toAggregate = (
  topic: string,
  subject: string
): { readonly partition: number; readonly aggregateId: string | undefined } | undefined => {
  if (!subject.startsWith(`${topic}.`)) return undefined
  const [partition, token, ...rest] = subject.slice(topic.length + 1).split(".")
  if (partition === undefined || !/^(0|[1-9]\d*)$/.test(partition)) return undefined
  if (token === undefined || token === "" || rest.length > 0) return undefined
  if (token === nobody) return { partition: Number(partition), aggregateId: undefined }
  const aggregateId = unescape(token, tokenEscaped)
  return aggregateId === undefined ? undefined : { partition: Number(partition), aggregateId }
}

const nameKeeps = /[A-Za-z0-9_-]/
const nameEscaped = /^(?:[A-Za-z0-9_~-]|=[0-9A-F]{2})*$/
const tokenKeeps = /[A-Za-z0-9_:/-]/
const tokenEscaped = /^(?:[A-Za-z0-9_:/~-]|=[0-9A-F]{2})*$/

const escape = (text: string, keeps = nameKeeps): string => {
  let escaped = ""
  for (const character of text) {
    if (keeps.test(character)) escaped += character
    else if (character === ".") escaped += "~"
    else for (const byte of encoder.encode(character)) escaped += `=${byte.toString(16).toUpperCase().padStart(2, "0")}`
  }
  return escaped
}

const unescape = (name: string, escaped = nameEscaped): string | undefined => {
  if (!escaped.test(name)) return undefined
  const bytes: Array<number> = []
  for (let i = 0; i < name.length; i++) {
    if (name[i] === "=") {
      bytes.push(parseInt(name.slice(i + 1, i + 3), 16))
      i += 2
    } else bytes.push(name[i] === "~" ? 46 : name.charCodeAt(i))
  }
  return Either.getOrUndefined(Either.try(() => decoder.decode(Uint8Array.from(bytes))))
}
