/**
 * The parts of kafkajs 2.2.4 that its driver uses and that its own types leave out.
 */
declare module "kafkajs/src/network/connection.js" {
  import type { Socket } from "node:net"
  export default class Connection {
    constructor(options: Record<string, unknown>)
    readonly socket: Socket | undefined
    /** Milliseconds; 0 for ever. */
    readonly sessionLifetime: { readonly toString: () => string }
    readonly requestQueue: {
      scheduleCheckPendingRequests: () => void
      rejectAll: (error: Error) => void
    }
    isConnected(): boolean
    connect(): Promise<unknown>
    disconnect(): Promise<unknown>
    setVersions(versions: unknown): void
    setSupportAuthenticationProtocol(supported: boolean): void
    authenticate(): Promise<void>
    send<A>(call: {
      readonly request: {
        readonly apiKey: number
        readonly apiVersion: number
        readonly apiName: string
        readonly encode: () => Promise<unknown>
      }
      readonly response: {
        readonly decode: (raw: Buffer) => Promise<unknown>
        readonly parse: (decoded: never) => Promise<A>
      }
      readonly logResponseError: boolean
    }): Promise<A>
  }
}

declare module "kafkajs/src/protocol/requests/index.js" {
  interface Call {
    readonly request: {
      readonly apiKey: number
      readonly apiVersion: number
      readonly apiName: string
      readonly encode: () => Promise<unknown>
    }
    readonly response: {
      readonly decode: (raw: Buffer) => Promise<unknown>
      readonly parse: (decoded: never) => Promise<unknown>
    }
  }
  const protocol: {
    readonly requests: {
      readonly [api: string]: {
        readonly versions: ReadonlyArray<number | string>
        readonly protocol: (options: { readonly version: number }) => (payload?: unknown) => Call
      }
    }
  }
  export default protocol
}

declare module "kafkajs/src/protocol/requests/apiKeys.js" {
  const keys: { readonly [api: string]: number }
  export default keys
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

declare module "kafkajs/src/protocol/encoder.js" {
  export default class Encoder {
    constructor(initialSize?: number)
    readonly buffer: Buffer
    writeBuffer(bytes: Buffer): this
    writeBytes(bytes: Buffer): this
  }
}
