/**
 * @since 0.1.0
 */
export * from "./BrokerError.js"

/** @since 0.1.0 */
export type { BrokerNode } from "./BrokerNode.js"

/** @since 0.1.0 */
export * as Brokers from "./Brokers.js"

/** @since 0.1.0 */
export * as Kafka from "./Kafka.js"

/** @since 0.1.0 */
export * as Nats from "./Nats.js"

/** @since 0.1.0 */
export * as Prometheus from "./Prometheus.js"

/** @since 0.1.0 */
export * as TcpProxy from "./TcpProxy.js"
