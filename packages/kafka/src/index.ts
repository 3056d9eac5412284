/**
 * @since 0.1.0
 */
export * as CommitMetadata from "./CommitMetadata.js"
/**
 * @since 0.1.0
 */
export * as Compression from "./Compression.js"
/**
 * @since 0.1.0
 */
export * as KafkaConfig from "./KafkaConfig.js"
/**
 * @since 0.1.0
 */
export * as KafkaConfigSpec from "./KafkaConfigSpec.js"
/**
 * @since 0.1.0
 */
export * as KafkaConnection from "./KafkaConnection.js"
/**
 * @since 0.1.0
 */
export * as KafkaConsumer from "./KafkaConsumer.js"
/**
 * @since 0.1.0
 */
export * as KafkaErrors from "./KafkaErrors.js"
/**
 * @since 0.1.0
 */
export * as KafkaProducer from "./KafkaProducer.js"
/**
 * @since 0.1.0
 */
export * as KafkaReader from "./KafkaReader.js"
/**
 * @since 0.1.0
 */
export * as KafkaStore from "./KafkaStore.js"
/**
 * @since 0.1.0
 */
export * as KafkaTopics from "./KafkaTopics.js"
/**
 * @since 0.1.0
 */
export * as KafkaTransport from "./KafkaTransport.js"
/**
 * @since 0.1.0
 */
export * as TopicSettings from "./TopicSettings.js"
