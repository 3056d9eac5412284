/**
 * What the machine's processors did for a while. Figures depend on it: on a virtual machine the host may take processors away
 * ("steal" in proc(5)), also while nothing else runs on it.
 */
import { readFileSync } from "node:fs"

/** Ticks since the machine was started. */
interface Ticks {
  readonly idle: number
  readonly stolen: number
  readonly all: number
}

/** Shares of all processors' time, from 0 to 1. */
export interface Use {
  /** What nobody wanted. */
  readonly idle: number
  /** What was wanted, and the host gave to others. */
  readonly stolen: number
}

/** `/proc/stat`'s first line: user, nice, system, idle, iowait, irq, softirq, steal; the rest is contained in these. */
export const parse = (stat: string): Ticks | undefined => {
  const ticks = /^cpu +(.*)$/m.exec(stat)?.[1]!.split(" ").slice(0, 8).map(Number)
  if (ticks?.length !== 8) return undefined
  return { idle: ticks[3]! + ticks[4]!, stolen: ticks[7]!, all: ticks.reduce((sum, each) => sum + each, 0) }
}

const look = (): Ticks | undefined => {
  try {
    return parse(readFileSync("/proc/stat", "utf8"))
  } catch {
    return undefined
  }
}

/** Begins to watch; the answer tells the use since then. Undefined where the system does not tell, which only Linux does. */
export const watch = (): () => Use | undefined => {
  const before = look()
  return () => {
    const after = look()
    if (before === undefined || after === undefined || after.all === before.all) return undefined
    const all = after.all - before.all
    return { idle: (after.idle - before.idle) / all, stolen: (after.stolen - before.stolen) / all }
  }
}

/** For a line of figures; empty where nothing is known. */
export const describe = (use: Use | undefined): string =>
  use === undefined
    ? ""
    : `processors ${Math.round(use.idle * 100)} % idle, the host took ${(use.stolen * 100).toFixed(1)} %`
