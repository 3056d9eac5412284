import { defineConfig } from "vitest/config"

// Not `build`: it has compiled copies. One file after the other: a machine of two cores starts six JVMs here.
export default defineConfig({
  test: { name: "brokers", include: ["test/**/*.test.ts"], fileParallelism: false, hookTimeout: 30_000 }
})
