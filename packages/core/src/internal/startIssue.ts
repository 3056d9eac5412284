import type { Service, StartFrom } from "../Transport.js"

/**
 * Why the transport can't begin there; undefined where it can.
 *
 * @internal
 */
export const startIssueOf = (
  startFrom: StartFrom | undefined,
  { capabilities, name }: Pick<Service, "capabilities" | "name">
): string | undefined => {
  if (typeof startFrom !== "object") return undefined
  if (!("group" in startFrom)) {
    return capabilities.startAt === true
      ? undefined
      : `startFrom: the ${name} transport can't begin at a time or at offsets`
  }
  if (capabilities.startAfterGroup !== true) {
    return `startFrom: the ${name} transport can't begin where another group has stopped`
  }
  const group: unknown = startFrom.group
  return typeof group === "string" && group.trim() !== ""
    ? undefined
    : "startFrom.group: expected a text that is not blank"
}
