/** The codecs of docs/kafka.md, from npm. */
import * as zstd from "@bokuweb/zstd-wasm"
import type { Compression } from "@effect-eventbus/kafka"
import * as lz4 from "lz4-napi"
import * as snappy from "snappy"

const ready = zstd.init()

export const codecs: Compression.Codecs = {
  snappy: {
    compress: (bytes) => snappy.compress(Buffer.from(bytes)),
    decompress: async (bytes) => Buffer.from(await snappy.uncompress(Buffer.from(bytes)))
  },
  lz4: {
    compress: (bytes) => lz4.compressFrame(Buffer.from(bytes)),
    decompress: (bytes) => lz4.decompressFrame(Buffer.from(bytes))
  },
  zstd: {
    compress: async (bytes) => (await ready, zstd.compress(bytes)),
    decompress: async (bytes) => (await ready, zstd.decompress(bytes))
  }
}
