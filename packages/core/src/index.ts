/**
 * @since 0.1.0
 */
export * as AggregateId from "./AggregateId.js"
/**
 * @since 0.1.0
 */
export * as ChurningMap from "./ChurningMap.js"
/**
 * @since 0.1.0
 */
export * as Circuit from "./Circuit.js"
/**
 * @since 0.1.0
 */
export * as ConfigSpec from "./ConfigSpec.js"
/**
 * @since 0.1.0
 */
export * as Control from "./Control.js"
/**
 * @since 0.1.0
 */
export * as DeadLetter from "./DeadLetter.js"
/**
 * @since 0.1.0
 */
export * as DeadLetters from "./DeadLetters.js"
/**
 * @since 0.1.0
 */
export * as Delivery from "./Delivery.js"
/**
 * @since 0.1.0
 */
export * as Dispatch from "./Dispatch.js"
/**
 * @since 0.1.0
 */
export * as Envelope from "./Envelope.js"
/**
 * @since 0.1.0
 */
export * as EnvelopeCodec from "./EnvelopeCodec.js"
/**
 * @since 0.1.0
 */
export * as EventBus from "./EventBus.js"
/**
 * @since 0.1.0
 */
export * as EventBusConfig from "./EventBusConfig.js"
/**
 * @since 0.1.0
 */
export * as EventBusError from "./EventBusError.js"
/**
 * @since 0.1.0
 */
export * as Failure from "./Failure.js"
/**
 * @since 0.1.0
 */
export * as FailurePolicy from "./FailurePolicy.js"
/**
 * @since 0.1.0
 */
export * as Headers from "./Headers.js"
/**
 * @since 0.1.0
 */
export * as MemoryBroker from "./MemoryBroker.js"
/**
 * @since 0.1.0
 */
export * as MemoryTransport from "./MemoryTransport.js"
/**
 * @since 0.1.0
 */
export * as Observer from "./Observer.js"
/**
 * @since 0.1.0
 */
export * as OffsetTracker from "./OffsetTracker.js"
/**
 * @since 0.1.0
 */
export * as OrderChecker from "./OrderChecker.js"
/**
 * @since 0.1.0
 */
export * as Parking from "./Parking.js"
/**
 * @since 0.1.0
 */
export * as Partitioner from "./Partitioner.js"
/**
 * @since 0.1.0
 */
export * as Poison from "./Poison.js"
/**
 * @since 0.1.0
 */
export * as PredecessorDispatch from "./PredecessorDispatch.js"
/**
 * @since 0.1.0
 */
export * as Presubscription from "./Presubscription.js"
/**
 * @since 0.1.0
 */
export * as RateLimit from "./RateLimit.js"
/**
 * @since 0.1.0
 */
export * as Recovery from "./Recovery.js"
/**
 * @since 0.1.0
 */
export * as Replay from "./Replay.js"
/**
 * @since 0.1.0
 */
export * as Rollout from "./Rollout.js"
/**
 * @since 0.1.0
 */
export * as Strategy from "./Strategy.js"
/**
 * @since 0.1.0
 */
export * as Subscription from "./Subscription.js"
/**
 * @since 0.1.0
 */
export * as Supervisor from "./Supervisor.js"
/**
 * @since 0.1.0
 */
export * as Topic from "./Topic.js"
/**
 * @since 0.1.0
 */
export * as Transport from "./Transport.js"
/**
 * @since 0.1.0
 */
export * as TransportConfig from "./TransportConfig.js"
