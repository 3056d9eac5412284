/**
 * @since 0.1.0
 */
export * as Eventually from "./Eventually.js"
/**
 * @since 0.1.0
 */
export * as Faults from "./Faults.js"
/**
 * @since 0.1.0
 */
export * as History from "./History.js"
/**
 * @since 0.1.0
 */
export * as Oracles from "./Oracles.js"
/**
 * @since 0.1.0
 */
export * as OrderOracle from "./OrderOracle.js"
/**
 * @since 0.1.0
 */
export * as Outcome from "./Outcome.js"
/**
 * @since 0.1.0
 */
export * as TestBus from "./TestBus.js"
/**
 * @since 0.1.0
 */
export * as Prng from "./Prng.js"
/**
 * @since 0.1.0
 */
export * as VirtualTime from "./VirtualTime.js"
