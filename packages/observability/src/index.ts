/**
 * @since 0.1.0
 */
export * as Finding from "./Finding.js"
/**
 * @since 0.1.0
 */
export * as Health from "./Health.js"
/**
 * @since 0.1.0
 */
export * as HealthServer from "./HealthServer.js"
/**
 * @since 0.1.0
 */
export * as Lag from "./Lag.js"
/**
 * @since 0.1.0
 */
export * as Metrics from "./Metrics.js"
/**
 * @since 0.1.0
 */
export * as Probe from "./Probe.js"
/**
 * @since 0.1.0
 */
export * as Prometheus from "./Prometheus.js"
/**
 * @since 0.1.0
 */
export * as Tracing from "./Tracing.js"
