/**
 * Poison: a message whose handler ends the process, by running out of memory, `process.exit` or a crash of native code. Nothing that is thrown
 * is caught then, so the next process would start the same handler, and die as well. With the option `poison` a subscription
 * notes in the transport's store which process had a partition. Where one has ended without closing, what it may have had
 * in hand is run one at a time, and a message with which processes die again goes to the failure policy without being started.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "./ConfigSpec.js"

/**
 * The settings of the protection against poison, with type, default, unit and meaning.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  /** In which life of the process a message that kills it is given up without being started. Default: `3`. */
  lives: ConfigSpec.integer({
    min: 3,
    default: 3,
    unit: "lives",
    description: "In which life of the process a message that kills it is given up without being started."
  }),
  /** How long the process has to live without the message before the message is given up. Default: `30 seconds`. */
  probation: ConfigSpec.duration({
    default: "30 seconds",
    description: "How long the process has to live without the message before the message is given up."
  }),
  /** How long the suspects of a partition are run one at a time; what is left is then run together, 64 at once. Default: `10 seconds`. */
  alone: ConfigSpec.duration({
    default: "10 seconds",
    description:
      "How long the suspects of a partition are run one at a time; what is left is then run together, 64 at once."
  })
}

/**
 * What can be set for the protection against poison, all with defaults; `spec` says what each means.
 *
 * @since 0.1.0
 * @category options
 */
export type Options = ConfigSpec.Options<typeof spec>
