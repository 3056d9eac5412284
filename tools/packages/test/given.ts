import { inject } from "vitest"
import type { Given } from "./Consumer.js"

declare module "vitest" {
  export interface ProvidedContext {
    consumer: Given | { readonly failure: string }
  }
}

/** For the top of a test file. Where making it failed, that file fails: an error in the setup would end all projects' tests. */
export const given = (): Given => {
  const consumer = inject("consumer")
  if ("failure" in consumer) throw new Error(consumer.failure)
  return consumer
}
