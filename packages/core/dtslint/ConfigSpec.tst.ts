import type { MemoryBroker } from "@effect-eventbus/core"
import { ConfigSpec, EventBusConfig } from "@effect-eventbus/core"
import type { Duration, Redacted } from "effect"
import { describe, expect, test } from "tstyche"

const spec = {
  name: ConfigSpec.string({ default: "me", description: "" }),
  size: ConfigSpec.integer({ default: 3, unit: "bytes", description: "" }),
  wait: ConfigSpec.duration({ default: "1 second", description: "" }),
  interval: ConfigSpec.duration({ default: "a third of wait", description: "" }),
  mode: ConfigSpec.literal("one", "two")({ default: "one", description: "" }),
  hosts: ConfigSpec.list({ description: "" }),
  password: ConfigSpec.secret({ description: "" })
}

describe("One list of settings", () => {
  test("yields the options", () => {
    expect<ConfigSpec.Options<typeof spec>>().type.toBe<{
      readonly name?: string | undefined
      readonly size?: number | undefined
      readonly wait?: Duration.DurationInput | undefined
      readonly interval?: Duration.DurationInput | undefined
      readonly mode?: "one" | "two" | undefined
      readonly hosts?: ReadonlyArray<string> | undefined
      readonly password?: Redacted.Redacted<string> | undefined
    }>()
  })

  test("yields the values, which are there where there is a default", () => {
    expect<ConfigSpec.Service<typeof spec>>().type.toBe<{
      readonly name: string
      readonly size: number
      readonly wait: Duration.Duration
      readonly interval: Duration.Duration | undefined
      readonly mode: "one" | "two"
      readonly hosts: ReadonlyArray<string> | undefined
      readonly password: Redacted.Redacted<string> | undefined
    }>()
  })

  test("yields what was read", () => {
    expect<ConfigSpec.Values<Pick<typeof spec, "wait" | "mode">>>().type.toBe<
      { readonly wait?: Duration.Duration; readonly mode?: "one" | "two" }
    >()
  })

  test("yields keys below a section, and options of them again", () => {
    const below = ConfigSpec.below("mine", { size: spec.size })
    expect(below).type.toBe<{ readonly "mine.size": typeof spec.size }>()
    const values = {} as ConfigSpec.Values<typeof below>
    expect(ConfigSpec.within("mine", values)).type.toBe<{ readonly size?: number }>()
  })

  test("refuses defaults of another type", () => {
    expect(ConfigSpec.integer).type.not.toBeCallableWith({ default: true, description: "" })
    expect(ConfigSpec.boolean).type.not.toBeCallableWith({ default: 1, description: "" })
  })
})

describe("The settings of the bus", () => {
  test("are checked where they are given", () => {
    expect(EventBusConfig.layer).type.toBeCallableWith({ retryTimes: 0, retryBase: "1 second", maxBytes: undefined })
    expect(EventBusConfig.layer).type.not.toBeCallableWith({ retryTime: 0 })
    expect(EventBusConfig.layer).type.not.toBeCallableWith({ retryTimes: "0" })
    expect<EventBusConfig.Service["retryTimes"]>().type.toBe<number>()
    expect<EventBusConfig.Service["retryBase"]>().type.toBe<Duration.Duration>()
    expect<MemoryBroker.Options["topics"]>().type.toBe<"create" | "validate" | undefined>()
  })
})
