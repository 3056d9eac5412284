import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { EnvelopeCodec } from "../../EnvelopeCodec.js"
import { EventBusConfig } from "../../EventBusConfig.js"
import { InvalidConfiguration, ReplayUnsupported } from "../../EventBusError.js"
import type { ReadError, SubscribeError } from "../../EventBusError.js"
import type { Any } from "../../TopicDefinition.js"
import * as Transport from "../../Transport.js"
import * as Letters from "./letters.js"
import * as Marks from "./marks.js"
import type { DeadLetters, Letter, Options, Target } from "./model.js"
import * as Release from "./release.js"

/** The name of the store beside the topic of dead letters. */
const STORE = "released"

/** @internal */
export const make = (
  topic: string | Any,
  options: Options
): Effect.Effect<DeadLetters, SubscribeError | ReplayUnsupported, Transport.Transport | Scope.Scope> =>
  Transport.logSafely(Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const codec = yield* EnvelopeCodec
    const { publishTimeout } = yield* EventBusConfig
    const spec: Transport.TopicSpec = typeof topic === "string" ? { name: topic, kind: "envelope" } : topic.spec
    const group: unknown = options.group ?? "dead-letters"
    const issues = [
      ...(typeof group === "string" && group.trim() !== "" ? [] : ["group: expected a text that is not blank"]),
      ...options.topics.filter((one) => one.name === spec.name || transport.covers?.(one.spec, spec) === true).map(
        ({ name }) => `topics: "${name}" would get its own dead letters again`
      )
    ]
    if (issues.length > 0) return yield* new InvalidConfiguration({ topic: spec.name, issues })
    const { read } = transport
    if (read === undefined) return yield* new ReplayUnsupported({ topic: spec.name, transport: transport.name })
    const store = yield* transport.store?.({ topic: spec, group: String(group), name: STORE }) ??
      Effect.succeed(undefined)
    const sources = new Letters.Sources(transport, options.topics, codec, options)
    const partitions = read({ topic: spec, from: "earliest", to: "now" })

    const waiting = (target: Target): Stream.Stream<Letter, ReadError> => {
      const isWanted = Letters.isOf(target)
      return Stream.unwrapScoped(
        Effect.map(
          partitions,
          (found) =>
            Stream.flatMap(
              Stream.fromIterable(found),
              ({ messages, partition }) =>
                Stream.unwrap(Effect.map(Marks.read(store, partition), (marks) =>
                  Stream.mapChunks(
                    messages,
                    Chunk.filterMap((message) => {
                      const letter = sources.letterOf(message)
                      return letter === undefined || marks.has(letter) || !isWanted(letter)
                        ? Option.none()
                        : Option.some(letter)
                    })
                  )))
            )
        )
      )
    }

    const run = (target: Target, done: Marks.Mark["done"], how: Release.How) =>
      Release.run(
        { transport, topic: spec, group: String(group), store, sources, partitions, publishTimeout },
        target,
        done,
        how
      )

    return {
      groups: (target = "all") =>
        Effect.suspend(() => {
          const groups = new Letters.Groups()
          return Effect.map(
            Stream.runForEachChunk(waiting(target), (letters) =>
              Effect.sync(() => {
                for (const letter of letters) groups.add(letter)
              })),
            () => groups.all
          )
        }),
      letters: (target = "all") => waiting(target),
      release: (target, how) => run(target, "released", how),
      discard: (target, how) => run(target, "discarded", how)
    }
  }))
