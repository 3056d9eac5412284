/** What is decided by the seed: streams of numbers for what happens in turn, and single ones for what has a name. */

/** From 0 up to, and without, 1. */
export type Random = () => number

const mix = (state: number): number => {
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

const hash = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}

/** A stream of its own for each name, so that what happens in one does not shift the others (mulberry32). */
export const make = (seed: number, name: string): Random => {
  let state = hash(`${seed}/${name}`)
  return () => mix(state = (state + 0x6d2b79f5) | 0)
}

/** The same number whenever the same is asked, in whichever process. */
export const at = (seed: number, ...of: ReadonlyArray<string | number>): number =>
  mix((hash(`${seed}/${of.join("/")}`) + 0x6d2b79f5) | 0)

export const between = (random: Random, from: number, to: number): number => from + random() * (to - from)

export const pick = <A>(random: Random, of: ReadonlyArray<A>): A => of[Math.floor(random() * of.length)]!
