import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as AST from "effect/SchemaAST"
import type { Envelope } from "../Envelope.js"
import type { EnvelopeDefinition } from "../TopicDefinition.js"

/**
 * The event type of a payload by default. A payload without a tag has an `eventType` by its topic's type; blank is refused when it is published.
 *
 * @internal
 */
export const tagOf = (payload: unknown): string =>
  Predicate.hasProperty(payload, "_tag") && typeof payload._tag === "string" ? payload._tag : ""

/**
 * Which event types a topic's readers know.
 *
 * @internal
 */
export interface Known {
  readonly types: ReadonlySet<string>
  /** The topic names them itself, so that an envelope of another type is not even decoded. */
  readonly isNamed: boolean
}

/**
 * Those that the topic names, else the tags of its Schema where they are the event types. Undefined where nothing is known.
 *
 * @internal
 */
export const of = (topic: EnvelopeDefinition<unknown, unknown>): Known | undefined => {
  if (topic.eventTypes !== undefined) return { types: new Set(topic.eventTypes), isNamed: true }
  if (topic.eventType !== tagOf) return undefined
  const types = new Set<string>()
  return collect(topic.schema.ast, types, 0) ? { types, isNamed: false } : undefined
}

/**
 * Whether an envelope is of an unknown type, after the Schema refused its payload. If the types are the Schema's tags, a payload with a
 * known tag is broken, and not of an unknown type, even if the envelope's type is unknown.
 *
 * @internal
 */
export const isUnknown = (known: Known, envelope: Envelope, payload: unknown): boolean =>
  !known.types.has(envelope.eventType) && (known.isNamed || !known.types.has(tagOf(payload)))

/** A Schema can be recursive. */
const maxDepth = 32

/** Adds the tags of all members. `false`: one has no literal tag, so that it may be of any type. */
const collect = (ast: AST.AST, types: Set<string>, depth: number): boolean => {
  if (depth > maxDepth) return false
  switch (ast._tag) {
    case "Union":
      return ast.types.every((one) => collect(one, types, depth + 1))
    case "TypeLiteral": {
      const tag = ast.propertySignatures.find(({ name }) => name === "_tag")
      return tag !== undefined && !tag.isOptional && literals(tag.type, types)
    }
    case "Refinement":
      return collect(ast.from, types, depth + 1)
    case "Transformation":
      return collect(ast.to, types, depth + 1)
    case "Suspend":
      return collect(ast.f(), types, depth + 1)
    case "Declaration": {
      // A class: its fields are those of the struct that it is made from.
      const surrogate = AST.getSurrogateAnnotation(ast)
      return Option.isSome(surrogate) && collect(surrogate.value, types, depth + 1)
    }
    default:
      return false
  }
}

const literals = (ast: AST.AST, types: Set<string>): boolean => {
  if (ast._tag === "Union") return ast.types.every((one) => literals(one, types))
  if (ast._tag !== "Literal" || typeof ast.literal !== "string") return false
  types.add(ast.literal)
  return true
}
