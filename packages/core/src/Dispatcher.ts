/**
 * Routes the messages of a subscription to mailboxes by their keys. A strategy
 * decides what owns a mailbox: an actor per aggregate here; a fixed pool of actors and keyed
 * workers can be given as other layers of the same service.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Actors, ActorSupervisor, type Behaviour } from "./ActorSupervisor.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The name of the strategy, for logs and metrics. */
  readonly strategy: string
  /**
   * Mailboxes for one subscription, which live as long as the scope. Messages with one key are handled one
   * after the other in the order in which they were offered, whatever the strategy.
   */
  readonly open: <M, R>(
    subscription: string,
    behaviour: Behaviour<M, R>
  ) => Effect.Effect<Actors<M>, never, R | Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Dispatcher extends Context.Tag("@effect-eventbus/core/Dispatcher")<Dispatcher, Service>() {}

/**
 * Every active aggregate has an actor of its own, so that unrelated aggregates never wait for each other.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerActorPerAggregate: Layer.Layer<Dispatcher, never, ActorSupervisor> = Layer.effect(
  Dispatcher,
  Effect.map(ActorSupervisor, (supervisor) => Dispatcher.of({ strategy: "actor-per-aggregate", open: supervisor.open }))
)
