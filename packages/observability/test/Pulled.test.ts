import { expect, it } from "@effect/vitest"
import { FastCheck as fc, Metric, MetricBoundaries, MetricKey } from "effect"
import * as Pulled from "../src/internal/Pulled.js"

const boundaries = MetricBoundaries.fromIterable([0.001, 0.01, 0.1, 1])
const stateOf = (name: string) => Metric.unsafeSnapshot().find(({ metricKey }) => metricKey.name === name)!.metricState

let serial = 0
const fresh = () => `pulled_${++serial}`

it("a histogram is what Effect makes of the same values, at each look", () => {
  const value = fc.oneof(
    fc.integer({ min: -5, max: 3_000 }).map((millis) => millis / 1000),
    fc.double({ min: 0, max: 4, noNaN: true })
  )
  fc.assert(fc.property(fc.array(fc.array(value, { maxLength: 20 }), { maxLength: 3 }), (looks) => {
    const [name, other] = [fresh(), fresh()]
    const update = Pulled.histogram(MetricKey.histogram(name, boundaries))
    const effects = Metric.histogram(other, boundaries)
    effects.register()
    for (const values of [[], ...looks]) {
      for (const one of values) {
        update(one)
        effects.unsafeUpdate(one, [])
      }
      expect(stateOf(name)).toEqual(stateOf(other))
    }
  }))
})

it("a counter is exact at each look, never falls, and is the same for whoever has its key", () => {
  const name = fresh()
  const key = MetricKey.counter(name, { incremental: true })
  const update = Pulled.counter(key)
  expect(stateOf(name)).toMatchObject({ count: 0 })
  for (let i = 0; i < 3; i++) update(1)
  update(-2)
  expect(stateOf(name)).toMatchObject({ count: 3 })
  Pulled.counter(MetricKey.counter(name, { incremental: true }))(2)
  // Somebody who goes the usual way.
  Metric.fromMetricKey(key).unsafeUpdate(4, [])
  expect(stateOf(name)).toMatchObject({ count: 9 })
  expect(stateOf(name)).toMatchObject({ count: 9 })
})

it("a histogram of values beyond the last boundary, or of none, has them in its count", () => {
  const name = fresh()
  const update = Pulled.histogram(MetricKey.histogram(name, MetricBoundaries.fromIterable([1])))
  update(Number.NaN)
  update(2)
  expect(stateOf(name)).toMatchObject({ count: 2, buckets: [[1, 0], [Infinity, 1]] })
})
