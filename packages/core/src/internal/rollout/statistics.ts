/**
 * How likely so much is by chance. Counts of rare things are taken as spread by the negative binomial distribution: Poisson's where the mean is
 * known, and wider where it was measured itself. Counts of what is not rare are less spread, and near to the normal distribution.
 */

/** Above this mean the normal distribution is near enough, and the sum below would take long. */
const many = 300
const few = 5

/**
 * How likely at least `count` is, where `mean` is expected, with the given variance.
 *
 * @internal
 */
export const chanceOf = (count: number, mean: number, variance: number): number => {
  const least = Math.floor(count)
  if (least <= 0) return 1
  if (mean <= 0) return 0
  if (mean > many || variance < mean && mean > few) return beyond((least - 0.5 - mean) / Math.sqrt(variance))
  const shape = Math.min(1e9, mean * mean / Math.max(variance - mean, 1e-9))
  const next = mean / (shape + mean)
  let one = Math.exp(-shape * Math.log1p(mean / shape))
  let below = 0
  for (let i = 0; i < least; i++) {
    below += one
    one *= (shape + i) / (i + 1) * next
    // What follows is too little to count.
    if (i > mean && one < 1e-12) break
  }
  return Math.max(0, 1 - below)
}

/** The chance that a normal variable is at least so many standard deviations above its mean (Abramowitz and Stegun 26.2.17). */
const beyond = (deviations: number): number => {
  const t = 1 / (1 + 0.2316419 * Math.abs(deviations))
  const tail = Math.exp(-deviations * deviations / 2) / Math.sqrt(2 * Math.PI) * t *
    (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  return deviations >= 0 ? tail : 1 - tail
}

/**
 * How much more counts differ between groups of aggregates than they would by chance, at least 1. Messages of one aggregate are alike, so
 * a hundred of them tell less than a hundred of different ones: all counts are to be divided by this.
 *
 * @internal
 */
export const spread = (counts: ArrayLike<number>, sizes: ArrayLike<number>): number => {
  let count = 0
  let size = 0
  let groups = 0
  for (let i = 0; i < sizes.length; i++) {
    count += counts[i]!
    size += sizes[i]!
    if (sizes[i]! > 0) groups++
  }
  if (groups < 2 || count <= 0) return 1
  const rate = count / size
  // A message may have restarted its actor several times.
  const variance = rate < 1 ? rate * (1 - rate) : rate
  let sum = 0
  for (let i = 0; i < sizes.length; i++) {
    if (sizes[i]! > 0) sum += (counts[i]! - rate * sizes[i]!) ** 2 / (variance * sizes[i]!)
  }
  return Math.max(1, sum / (groups - 1))
}
