/** How many milliseconds to wait after so many failures in a row: twice as long after each, and never longer than a second. */
export const backoff = (failures: number): number => Math.min(1_000, 50 * 2 ** Math.min(failures, 6))
