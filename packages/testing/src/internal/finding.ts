/** What the oracles say of what they find. */
import type { Entry, History, Message } from "../History.js"
import type { Finding, OracleName } from "../Oracles.js"

/**
 * How many entries of an aggregate a finding quotes.
 *
 * @internal
 */
export const quoted = 12

/** @internal */
export const finding = (
  oracle: OracleName,
  kind: Finding["kind"],
  message: Message | undefined,
  explanation: string,
  entries: History = [],
  entry?: Entry
): Finding => {
  const end = entry === undefined ? entries.length : entries.indexOf(entry) + 1
  return { oracle, kind, message, explanation, context: entries.slice(Math.max(0, end - quoted), end) }
}

/** @internal */
export const name = ({ aggregate, sequence }: Message): string => `${aggregate}/${sequence}`
