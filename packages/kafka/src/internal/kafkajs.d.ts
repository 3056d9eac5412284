/**
 * The parts of kafkajs 2.2.4 that this package uses and that its own types leave out.
 * Only `Wire.ts`, `requests.ts` and `groupProtocol.ts` import them.
 */
declare module "kafkajs/src/network/connection.js" {
  import type { Socket } from "node:net"
  export default class Connection {
    constructor(options: Record<string, unknown>)
    readonly socket: Socket | undefined
    readonly requestQueue: {
      throttledUntil: number
      throttleCheckTimeoutId: unknown
      readonly pending: ReadonlyArray<unknown>
      scheduleCheckPendingRequests: () => void
      checkPendingRequests: () => void
      rejectAll: (error: Error) => void
    }
    isConnected(): boolean
    connect(): Promise<unknown>
    disconnect(): Promise<unknown>
    setVersions(versions: unknown): void
    setSupportAuthenticationProtocol(supported: boolean): void
    authenticate(): Promise<void>
    send(call: Record<string, unknown>): Promise<unknown>
  }
}

declare module "kafkajs/src/protocol/requests/index.js" {
  interface Call {
    readonly request: { readonly apiVersion: number; readonly encode: () => Promise<unknown> }
    readonly response: {
      readonly decode: (raw: Buffer) => Promise<unknown>
      readonly parse: (decoded: unknown) => Promise<unknown>
    }
    readonly requestTimeout?: number
  }
  interface Definition {
    readonly versions: ReadonlyArray<string>
    readonly protocol: (options: { readonly version: number }) => (payload?: unknown) => Call
  }
  const protocol: {
    readonly requests: { readonly [api: string]: Definition }
    readonly lookup: (versions: unknown) => (key: number, definition: Definition) => (payload: unknown) => Call
  }
  export default protocol
}

declare module "kafkajs/src/protocol/requests/apiKeys.js" {
  const keys: { readonly [api: string]: number }
  export default keys
}

declare module "kafkajs/src/protocol/error.js" {
  const errors: {
    readonly errorCodes: ReadonlyArray<{ readonly type: string; readonly code: number; readonly message: string }>
  }
  export default errors
}

declare module "kafkajs/src/loggers/index.js" {
  const loggers: {
    readonly LEVELS: { readonly INFO: number }
    readonly createLogger: (options: {
      readonly level: number
      readonly logCreator: () => (entry: {
        readonly label: string
        readonly namespace: string
        readonly log: { readonly message: string } & Record<string, unknown>
      }) => void
    }) => unknown
  }
  export default loggers
}

declare module "kafkajs/src/consumer/assignerProtocol.js" {
  const protocol: {
    readonly MemberMetadata: {
      readonly encode: (metadata: { version: number; topics: Array<string>; userData: Buffer }) => Buffer
      readonly decode: (bytes: Buffer) => { readonly topics: ReadonlyArray<string>; readonly userData: Buffer | null }
    }
    readonly MemberAssignment: {
      readonly encode: (
        assignment: { version: number; assignment: Record<string, Array<number>>; userData: Buffer }
      ) => Buffer
      readonly decode: (bytes: Buffer) => {
        readonly assignment: { readonly [topic: string]: ReadonlyArray<number> | undefined }
        readonly userData: Buffer | null
      } | null
    }
  }
  export default protocol
}

declare module "kafkajs/src/protocol/encoder.js" {
  export default class Encoder {
    constructor(initialSize?: number)
    readonly buffer: Buffer
    writeBuffer(bytes: Buffer): this
  }
}
