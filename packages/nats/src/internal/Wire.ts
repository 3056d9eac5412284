/**
 * Writes to the connection with fewer buffers than the client's `publish`, which makes three of each message: one for a
 * message, and one for all acknowledgements that are sent together.
 *
 * It goes the way that `publish` itself takes, so everything leaves in the order in which it was given. A client that does not have
 * that way, and whatever `publish` would refuse, is left to `publish`.
 */
import type { Client } from "./Client.js"
import type { Frame } from "./Frame.js"

export class Wire {
  constructor(private readonly client: Client) {}

  /** Throws what the client throws, when it is closed or does not take the message. */
  publish(frame: Frame): void {
    const { client } = this
    if (client.takes(frame.size)) client.write(frame.bytes)
    else client.publish(frame.subject, frame.value, frame.reply, frame.headers)
  }

  /** The same short text to several subjects; `reply` is for the last one. Throws like `publish`. */
  tell(text: string, subjects: ReadonlyArray<string>, reply?: string): void {
    const { client } = this
    const last = subjects.length - 1
    if (last < 0) return
    if (!client.takes(text.length)) {
      const bytes = Buffer.from(text)
      for (let i = 0; i <= last; i++) client.publish(subjects[i]!, bytes, i === last ? reply : undefined)
      return
    }
    const end = ` ${text.length}\r\n${text}\r\n`
    let commands = ""
    for (let i = 0; i < last; i++) commands += `PUB ${subjects[i]!}${end}`
    commands += `PUB ${subjects[last]!}${reply === undefined ? "" : ` ${reply}`}${end}`
    client.write(Buffer.from(commands))
  }
}
