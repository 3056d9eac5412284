/** A codec of ours in kafkajs's encoder of batches, which looks codecs up in a table of its own. */
import kafkajs from "kafkajs/src/protocol/message/compression/index.js"
import type { Codecs, Compression } from "../Compression.js"
import { typeOf } from "../Compression.js"

let registered = 0

export interface Registered {
  /** What to give to kafkajs; its lowest bits are what it writes. */
  readonly compression: number
  readonly release: () => void
}

/** The table is shared by the whole process, so each producer has a number of its own. */
export const register = (compression: Compression, codecs: Codecs): Registered => {
  if (compression === "none") return { compression: 0, release: () => {} }
  const codec = codecs[compression]!
  const number = typeOf(compression) + (++registered << 3)
  kafkajs.Codecs[number] = () => ({
    compress: async ({ buffer }) => Buffer.from(await codec.compress(buffer)),
    decompress: async (bytes) => Buffer.from(await codec.decompress(bytes))
  })
  return {
    compression: number,
    release: () => {
      delete kafkajs.Codecs[number]
    }
  }
}
