/** How one kind of request is written, and its answer read, in each version that is spoken here. */
import { Writer } from "./Writer.js"

export interface Api<Request, Response extends Answer> {
  /** Kafka's number of the request. */
  readonly key: number
  /** Those that are spoken here, the best first. */
  readonly versions: ReadonlyArray<number>
  /** From this version on, the headers of request and answer have fields of later versions at their end. */
  readonly taggedFrom?: number
  /** The body, without the header. It may throw: then nothing is sent. */
  readonly encode: (request: Request, version: number) => Buffer | Promise<Buffer>
  /** Error codes stay in the answer: nothing is thrown for them. */
  readonly decode: (body: Buffer, version: number) => Response
}

export interface Answer {
  /** For so long the broker wants no other request on this link; left out is 0. */
  readonly throttleMs?: number | undefined
}

/** All from the newest to the oldest. */
export const versions = (oldest: number, newest: number): ReadonlyArray<number> =>
  Array.from({ length: newest - oldest + 1 }, (_, i) => newest - i)

/** More than enough for a request: `fixed` bytes, the texts with their lengths, and `each` for every part. */
export const writerFor = (fixed: number, texts: Iterable<string | null | undefined>, each = 0, parts = 0): Writer => {
  let size = fixed + each * parts
  for (const text of texts) size += Buffer.byteLength(text ?? "") + 8
  return new Writer(Buffer.allocUnsafe(size))
}
