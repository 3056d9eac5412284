/**
 * Routes the messages of a subscription to mailboxes by their keys. A strategy
 * decides what owns a mailbox: here an actor per aggregate. Another strategy, for instance a fixed pool
 * of actors, can be given as a layer of your own.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Actors, ActorSupervisor, type Behaviour } from "./ActorSupervisor.js"

/**
 * A strategy that gives each subscription its mailboxes.
 *
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
 * The strategy of a bus: `EventBus.layer` has `layerActorPerAggregate`, `EventBus.layerDispatcher` takes another one.
 *
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
