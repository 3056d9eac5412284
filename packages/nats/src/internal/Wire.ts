/**
 * Writes to the connection with fewer buffers than the client's `publish`, which makes three of each message: one for a
 * message, and one for all acknowledgements that are sent together.
 *
 * It goes the way that `publish` itself takes, so everything leaves in the order in which it was given. That way is not
 * exported: a client that does not have it, and whatever `publish` would refuse, is left to `publish`.
 */
import type { MsgHdrs, NatsConnection } from "nats"
import type { Frame } from "./Frame.js"

interface Protocol {
  readonly noMorePublishing: boolean
  readonly sendCommand: (command: Uint8Array) => void
}

export class Wire {
  private readonly protocol: Protocol | undefined

  constructor(private readonly client: NatsConnection) {
    const { protocol } = client as unknown as { readonly protocol?: Partial<Protocol> }
    this.protocol = typeof protocol?.sendCommand === "function" ? protocol as Protocol : undefined
  }

  /** Throws what the client throws, when it is closed or does not take the message. */
  publish(frame: Frame): void {
    const { client, protocol } = this
    if (protocol !== undefined && this.takes(protocol, frame.size)) protocol.sendCommand(frame.bytes)
    else client.publish(frame.subject, frame.value, { reply: frame.reply, headers: new Block(frame.headers) })
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
