import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/**
 * Answers one request.
 *
 * @internal
 */
export type Answer = (request: IncomingMessage, response: ServerResponse) => void

/**
 * A server that ends with the scope, whoever is still connected. It answers the port that it listens on.
 *
 * @internal
 */
export const serve = <E>(
  options: { readonly port: number; readonly host: string },
  routes: ReadonlyMap<string, Answer>,
  failed: (cause: unknown) => E
): Effect.Effect<{ readonly port: number }, E, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      listen(options, failed, (request, response) => {
        const [path] = (request.url ?? "").split("?")
        const answer = routes.get(path!)
        if (answer === undefined) response.writeHead(404).end()
        else if (request.method === "GET" || request.method === "HEAD") answer(request, response)
        else refuse(response)
      }),
      close
    ),
    (server) => ({ port: (server.address() as AddressInfo).port })
  )

/**
 * The answer to other methods than GET and HEAD.
 *
 * @internal
 */
export const refuse = (response: ServerResponse): void => {
  response.writeHead(405, { allow: "GET, HEAD" }).end()
}

const listen = <E>(
  { host, port }: { readonly port: number; readonly host: string },
  toError: (cause: unknown) => E,
  answer: Answer
): Effect.Effect<Server, E> =>
  Effect.async<Server, E>((resume) => {
    // A client that sends its request slowly, or none, must not keep a socket for ever.
    const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 5_000 }, answer)
    const failed = (cause: unknown) => resume(Effect.fail(toError(cause)))
    server.once("error", failed)
    try {
      server.listen({ port, host }, () => {
        server.off("error", failed)
        // Such as no room for one more socket: the next request may find some.
        server.on("error", () => {})
        resume(Effect.succeed(server))
      })
    } catch (cause) {
      failed(cause)
    }
  })

const close = (server: Server): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })
