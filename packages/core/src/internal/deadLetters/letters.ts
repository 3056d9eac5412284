import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as DeadLetter from "../../DeadLetter.js"
import type * as EnvelopeCodec from "../../EnvelopeCodec.js"
import type * as Transport from "../../Transport.js"
import * as Incoming from "../incoming.js"
import * as Fingerprint from "../parking/fingerprint.js"
import * as UserCode from "../userCode.js"
import type { Group, Letter, Options, Target } from "./model.js"

/** A topic into which letters may be released. */
export interface Source {
  readonly spec: Transport.TopicSpec
  readonly incoming: Incoming.Incoming
}

const noType = () => ""

/**
 * The topics whose letters are looked at.
 *
 * @internal
 */
export class Sources {
  private readonly known = new Map<string, Source>()
  private readonly others: Incoming.Incoming

  constructor(
    private readonly transport: Transport.Service,
    topics: Options["topics"],
    codec: EnvelopeCodec.Service,
    options: { readonly aggregateIdFromSubject?: boolean | undefined }
  ) {
    for (const topic of topics) {
      // Nobody looks at the payload.
      const definition = topic.kind === "plain"
        ? { ...topic, kind: topic.kind }
        : { ...topic, kind: topic.kind, codec: topic.codec, schema: Schema.Unknown, eventType: noType, eventTypes: [] }
      this.known.set(topic.name, { spec: topic.spec, incoming: Incoming.make(definition, codec, options) })
    }
    this.others = Incoming.make({ kind: "plain", name: "", spec: { name: "", kind: "plain" } }, codec, options)
  }

  /** The topic itself, or one whose pattern it is of. */
  of(name: string): Source | undefined {
    const found = this.known.get(name)
    if (found !== undefined) return found
    for (const { incoming, spec } of this.known.values()) {
      if (this.transport.covers?.(spec, { ...spec, name }) === true) return { incoming, spec: { ...spec, name } }
    }
    return undefined
  }

  /** Nothing where the message is no dead letter. */
  letterOf(message: Transport.IncomingMessage): Letter | undefined {
    const read = DeadLetter.fromDelivery(message)
    if (Option.isNone(read)) return undefined
    const content = read.value
    const { original: { headers }, position: { offset, partition, topic } } = content
    const incoming = this.of(topic)?.incoming ?? this.others
    return {
      position: { topic: message.topic, partition: message.partition, offset: message.offset },
      time: message.timestamp,
      aggregate: incoming.read({ ...message, topic, partition, offset, headers }).mailbox,
      cause: causeOf(content),
      content
    }
  }
}

/** As parking has it, so that the same failure has the same name in both. */
const causeOf = ({ cause, error, frame }: DeadLetter.DeadLetter): string =>
  Fingerprint.idOf({ error: error ?? "unknown", frame: frame ?? (cause === undefined ? undefined : frameIn(cause)) })

/** Letters of before have their frames in the text of the cause only, on one line. */
const frameIn = (cause: string): string | undefined =>
  / at ((?:(?! at )[^()]){0,200}\([^()]{1,300}:\d+:\d+\)|[^\s()]{1,300}:\d+:\d+)/.exec(cause)?.[1]

/** @internal */
export const isOf = (target: Target): (letter: Letter) => boolean => {
  if (target === "all") return () => true
  if ("aggregate" in target) return ({ aggregate }) => aggregate === target.aggregate
  if ("cause" in target) return ({ cause }) => cause === target.cause
  return (letter) => UserCode.sync(() => target.where(letter))
}

const maxGroups = 1_000

/** The cause of those that are one too many. */
const OTHERS = "others"

/**
 * Letters by their causes.
 *
 * @internal
 */
export class Groups {
  private readonly groups = new Map<string, Omit<Group, "aggregates"> & { readonly aggregates: Set<string> }>()

  add({ aggregate, cause: of, content: { cause: message, position }, time }: Letter): void {
    const cause = this.groups.has(of) || this.groups.size < maxGroups ? of : OTHERS
    const before = this.groups.get(cause)
    const aggregates = before?.aggregates ?? new Set()
    if (aggregate !== undefined) aggregates.add(`${position.topic}\n${aggregate}`)
    const isNewest = before === undefined || time >= before.last
    this.groups.set(cause, {
      cause,
      message: isNewest ? message : before.message,
      letters: (before?.letters ?? 0) + 1,
      aggregates,
      first: Math.min(before?.first ?? time, time),
      last: Math.max(before?.last ?? time, time)
    })
  }

  get all(): ReadonlyArray<Group> {
    return Array.from(this.groups.values(), (group) => ({ ...group, aggregates: group.aggregates.size }))
      .sort((a, b) => b.letters - a.letters)
  }
}
