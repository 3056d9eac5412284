/**
 * @since 0.1.0
 */
export * as Expected from "./Expected.js"

/**
 * @since 0.1.0
 */
export * as MessageTtl from "./MessageTtl.js"

/**
 * @since 0.1.0
 */
export * as NatsConfig from "./NatsConfig.js"

/**
 * @since 0.1.0
 */
export * as NatsConfigSpec from "./NatsConfigSpec.js"

/**
 * @since 0.1.0
 */
export * as NatsConnection from "./NatsConnection.js"

/**
 * @since 0.1.0
 */
export * as NatsErrors from "./NatsErrors.js"

/**
 * @since 0.1.0
 */
export * as NatsInstance from "./NatsInstance.js"

/**
 * @since 0.1.0
 */
export * as NatsTransport from "./NatsTransport.js"

/**
 * @since 0.1.0
 */
export * as Subject from "./Subject.js"
