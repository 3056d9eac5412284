/**
 * Which partition a key belongs to. Every producer of a topic has to use the
 * same function, in every programming language.
 *
 * @since 0.1.0
 */

/**
 * `murmur2` is what Java's client, kafkajs and most others do; `sarama-fnv1a` is the default of Go's Sarama.
 *
 * @since 0.1.0
 * @category models
 */
export type Partitioner = "murmur2" | "sarama-fnv1a"

/**
 * The partition of a key. It is a pure function of the key's bytes and the number of partitions.
 *
 * @since 0.1.0
 * @category partitioning
 */
export const partition = (partitioner: Partitioner, key: Uint8Array, partitions: number): number =>
  partitioner === "murmur2"
    ? (murmur2(key) & 0x7fffffff) % partitions
    : Math.abs((fnv1a(key) | 0) % partitions)

/**
 * Murmur2 with the seed of Kafka's clients (`org.apache.kafka.common.utils.Utils.murmur2`), as a signed 32-bit integer.
 *
 * @since 0.1.0
 * @category hashing
 */
export const murmur2 = (data: Uint8Array): number => {
  const m = 0x5bd1e995
  const length = data.length
  let h = 0x9747b28c ^ length
  const words = length >> 2
  for (let i = 0; i < words; i++) {
    const j = i << 2
    let k = data[j]! | (data[j + 1]! << 8) | (data[j + 2]! << 16) | (data[j + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    k = Math.imul(k, m)
    h = Math.imul(h, m) ^ k
  }
  const tail = words << 2
  // The bytes of the last, incomplete word.
  const rest = length & 3
  if (rest === 3) h ^= data[tail + 2]! << 16
  if (rest >= 2) h ^= data[tail + 1]! << 8
  if (rest >= 1) {
    h ^= data[tail]!
    h = Math.imul(h, m)
  }
  h ^= h >>> 13
  h = Math.imul(h, m)
  h ^= h >>> 15
  return h | 0
}

/**
 * The 32-bit FNV-1a hash, as an unsigned integer.
 *
 * @since 0.1.0
 * @category hashing
 */
export const fnv1a = (data: Uint8Array): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < data.length; i++) hash = Math.imul(hash ^ data[i]!, 0x01000193)
  return hash >>> 0
}
