import type { AddressBook } from "../addressBook.js"

/**
 * A subscription, as far as circuits go.
 *
 * @internal
 */
export interface Member {
  /** `topic/group`. */
  readonly name: string
  readonly book: AddressBook
  /** Its messages can probe: what is settled before is not risked. */
  readonly canProbe: boolean
  /** Its lanes take messages again. */
  readonly goOn: () => void
  /** It closes, and its messages begin to probe no more. */
  isClosing: boolean
}
