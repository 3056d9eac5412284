/**
 * What the tests need of the package `nats`, made of its successors. In `npm run test:nats3` it stands in its place, for the transport and
 * for what the tests do with a client of their own.
 */
import { jetstream, jetstreamManager } from "@nats-io/jetstream"
import * as Node from "@nats-io/transport-node"

export { DeliverPolicy, DiscardPolicy, StorageType } from "@nats-io/jetstream"
export { createInbox, credsAuthenticator, headers, nkeyAuthenticator, nkeys } from "@nats-io/transport-node"

export const connect = async (options: Node.NodeConnectionOptions) => {
  const connection = await Node.connect(options)
  return Object.assign(connection, {
    jetstream: () => jetstream(connection),
    jetstreamManager: () => jetstreamManager(connection)
  })
}
