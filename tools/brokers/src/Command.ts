/**
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { BrokerError } from "./BrokerError.js"

/**
 * What a command that ended left: its exit code (`null` after a signal) and both outputs together.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finished {
  readonly code: number | null
  readonly output: string
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  readonly cwd?: string | undefined
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** The command is killed after this; default 10 minutes (a cold download and build). */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Runs a command to its end. Fails only when it can't be started or outlives its timeout; interruption kills it.
 *
 * @since 0.1.0
 * @category running
 */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Finished, BrokerError> =>
  Effect.async<Finished, BrokerError>((resume) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString("utf8")).slice(-64_000)
    }
    child.stdout.on("data", collect)
    child.stderr.on("data", collect)
    child.once("error", (cause) =>
      resume(new BrokerError({ broker: command, reason: "Missing", detail: `${command} can't be started`, cause })))
    child.once("close", (code) =>
      resume(Effect.succeed({ code, output })))
    return Effect.sync(() =>
      child.kill("SIGKILL")
    )
  }).pipe(
    Effect.timeoutFail({
      duration: options.timeout ?? "10 minutes",
      onTimeout: () =>
        new BrokerError({
          broker: command,
          reason: "Download",
          detail: `${command} ${args[0] ?? ""} took longer than ${Duration.format(options.timeout ?? "10 minutes")}`
        })
    })
  )

/**
 * Like {@link run}, and an exit code other than 0 is a failure that shows what the command printed.
 *
 * @since 0.1.0
 * @category running
 */
export const expect = (
  command: string,
  args: ReadonlyArray<string>,
  options: Options & { readonly advice?: string | undefined } = {}
): Effect.Effect<string, BrokerError> =>
  Effect.flatMap(run(command, args, options), ({ code, output }) =>
    code === 0
      ? Effect.succeed(output)
      : new BrokerError({
        broker: command,
        reason: "Download",
        detail: `${command} ${args.slice(0, 2).join(" ")} ended with ${code ?? "a signal"}.`,
        advice: options.advice,
        log: output.split("\n").slice(-30).join("\n")
      }))

/**
 * The first of several programs that starts and whose output of `args` passes the check, if any.
 *
 * @since 0.1.0
 * @category running
 */
export const find = (
  candidates: ReadonlyArray<string>,
  args: ReadonlyArray<string>,
  accept: (output: string) => boolean
): Effect.Effect<string | undefined> =>
  Effect.gen(function*() {
    for (const candidate of candidates) {
      const fits = yield* run(candidate, args, { timeout: "20 seconds" }).pipe(
        Effect.map(({ code, output }) => code === 0 && accept(output)),
        // Not being there is one of the two answers this question has.
        Effect.catchAll(() => Effect.succeed(false))
      )
      if (fits) return candidate
    }
    return undefined
  })
