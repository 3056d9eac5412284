/** What was done to the processes, the brokers and the network of a run, and when. */

/** A time in which a process could not run or say anything: it was killed, suspended, or had ended. */
export interface Outage {
  readonly process: string
  readonly from: number
  readonly to: number
  readonly why: "kill" | "suspend" | "end"
}

/** A time in which brokers or the network were not as they should be. */
export interface Disturbance {
  readonly from: number
  readonly to: number
}

/** Times are nanoseconds. */
export interface Circumstances {
  readonly outages: ReadonlyArray<Outage>
  readonly disturbances: ReadonlyArray<Disturbance>
  /** How long what is finished may wait for the confirmation of its commit: its interval, and what the request takes. */
  readonly unconfirmed: number
  /** How long a member that nobody hears goes on before it is fenced. */
  readonly session: number
}

export const calm: Circumstances = { outages: [], disturbances: [], unconfirmed: 2e9, session: 2e9 }
