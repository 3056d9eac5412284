import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as PrometheusPackage from "../src/PrometheusPackage.js"

it.effect("a folder that is named and does not have the programs is an error that says so", () =>
  Effect.gen(function*() {
    const before = process.env["TEST_PROMETHEUS"]
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (before === undefined) delete process.env["TEST_PROMETHEUS"]
        else process.env["TEST_PROMETHEUS"] = before
      })
    )
    process.env["TEST_PROMETHEUS"] = join(tmpdir(), "no such folder")
    const error = yield* Effect.flip(PrometheusPackage.get)
    expect(error.message).toContain(
      "no such folder, which TEST_PROMETHEUS names, does not have prometheus and promtool"
    )
  }).pipe(Effect.scoped))
