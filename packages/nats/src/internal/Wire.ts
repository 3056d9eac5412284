/**
 * Writes to the connection with fewer buffers than the client's `publish`, which makes three of each message: one for a
 * message's protocol line, and one for all acknowledgements that are sent together.
 *
 * It goes the way that `publish` itself takes, so everything leaves in the order in which it was given. That way is not
 * exported: a client that does not have it, and whatever `publish` would refuse, is left to `publish`.
 */
import type { MsgHdrs, NatsConnection } from "nats"

interface Protocol {
  readonly noMorePublishing: boolean
  readonly sendCommand: (command: Uint8Array, ...payloads: ReadonlyArray<Uint8Array>) => void
}

const lineEnd = Buffer.from("\r\n")

export class Wire {
  private readonly protocol: Protocol | undefined

  constructor(private readonly client: NatsConnection) {
    const { protocol } = client as unknown as { readonly protocol?: Partial<Protocol> }
    this.protocol = typeof protocol?.sendCommand === "function" ? protocol as Protocol : undefined
  }

  /** Throws what the client throws, when it is closed or does not take the message. */
  publish(subject: string, reply: string, headers: Uint8Array, value: Uint8Array): void {
    const size = headers.length + value.length
    const { client, protocol } = this
    if (protocol === undefined || !this.takes(protocol, size)) {
      client.publish(subject, value, { reply, headers: new Block(headers) })
    } else {
      const line = Buffer.from(`HPUB ${subject} ${reply} ${headers.length} ${size}\r\n`)
      if (value.length === 0) protocol.sendCommand(line, headers, lineEnd)
      else protocol.sendCommand(line, headers, value, lineEnd)
    }
  }

  /** The same short text to several subjects; `reply` is for the last one. Throws like `publish`. */
  tell(text: string, subjects: ReadonlyArray<string>, reply?: string): void {
    const { client, protocol } = this
    const last = subjects.length - 1
    if (last < 0) return
    if (protocol === undefined || !this.takes(protocol, text.length)) {
      const bytes = Buffer.from(text)
      for (let i = 0; i <= last; i++) {
        client.publish(subjects[i]!, bytes, i === last && reply !== undefined ? { reply } : {})
      }
      return
    }
    const end = ` ${text.length}\r\n${text}\r\n`
    let commands = ""
    for (let i = 0; i < last; i++) commands += `PUB ${subjects[i]!}${end}`
    commands += `PUB ${subjects[last]!}${reply === undefined ? "" : ` ${reply}`}${end}`
    protocol.sendCommand(Buffer.from(commands))
  }

  private takes(protocol: Protocol, size: number): boolean {
    const { client } = this
    return !client.isClosed() && !protocol.noMorePublishing && client.info?.headers === true &&
      size <= client.info.max_payload
  }
}

/** The client only asks headers for their bytes. */
const Block = class {
  constructor(private readonly bytes: Uint8Array) {}
  encode(): Uint8Array {
    return this.bytes
  }
} as unknown as new(bytes: Uint8Array) => MsgHdrs
