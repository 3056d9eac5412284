/**
 * The bounds of `Health`, in milliseconds.
 *
 * @internal
 */
export interface Limits {
  readonly interval: number
  /** For how long something has been so, without the time in which the process did not run. */
  readonly elapsed: (since: number) => number
  readonly stalledAfter: (subscription: { readonly topic: string; readonly group: string }) => number
  readonly failingAfter: number
  readonly unsettledAfter: number
  readonly disconnectedAfter: number
  readonly blockedAfter: number
  readonly window: number
  readonly floodFrom: number
  readonly floodShare: number
}
