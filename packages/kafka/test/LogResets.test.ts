/** What becomes of a partition whose log is another one, where the group can't be told at once. */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { makeGroup } from "./fakeGroup.js"
import { eventually, makeConsumer, request, spec } from "./Harness.js"

const values = (from: string, count: number) => Array.from({ length: count }, (_, i) => `${from} ${i}`)

it.scopedLive(
  "a log that was cut, nobody knows where, begins anew, also where that can't be committed at first",
  () =>
    Effect.gen(function*() {
      const { consumer, state } = makeGroup({ offset: 50, metadata: "" })
      state.log = values("old", 100)
      const { all, consumer: held, lanes } = makeConsumer()
      const service = yield* consumer
      yield* service.subscribe(request(spec("orders")), held)
      yield* eventually("what is there arrives", () => all().length === 50)
      // Nothing was finished. From now on nothing can be committed, and the log is cut and grows again.
      state.code = () => 14
      state.log = values("new", 60)
      yield* eventually("the partition is begun again", () => lanes[0]!.isClosed)
      const { commits } = state
      state.log = values("new", 200)
      yield* eventually("it is tried in the next generation", () => state.joins > 1 && state.commits > commits + 2)
      state.code = () => 0
      yield* eventually("something comes", () => lanes.length > 1 && lanes.at(-1)!.taken.length > 0)
      yield* eventually("all of the new log comes", () => lanes.at(-1)!.taken.at(-1)?.offset === 199)
      const { taken } = lanes.at(-1)!
      expect(taken.map(({ offset }) => offset)).toEqual(Array.from({ length: 200 }, (_, i) => i))
      expect(taken.slice(0, 100).every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
      expect(taken.slice(100).some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
    }),
  20_000
)

it.scopedLive(
  "what was finished of a log that was cut is not handled again, though the group was not told of it",
  () =>
    Effect.gen(function*() {
      const { consumer, state } = makeGroup({ offset: 0, metadata: "" })
      state.log = values("old", 100)
      const { all, consumer: held, lanes } = makeConsumer({ onTake: ({ assignment }, one) => assignment.finish(one) })
      const service = yield* consumer
      // Only the mark of the beginning is committed.
      state.code = ({ partitions }) => partitions[0]!.offset === 0 && state.joins === 1 ? 0 : 14
      yield* service.subscribe(request(spec("orders")), held)
      yield* eventually("what is there is handled", () => all().length === 100)
      state.cutAt = 60
      state.log = values("old", 60)
      yield* eventually("the partition is begun again, and can't", () => lanes[0]!.isClosed && state.joins > 1)
      // When it begins, the log has not yet grown to where it was before.
      state.log = [...values("old", 60), ...values("new", 10)]
      state.code = () => 0
      yield* eventually("the first new ones come", () => all().at(-1)?.offset === 69)
      state.log = [...values("old", 60), ...values("new", 60)]
      yield* eventually("the new ones come", () => all().at(-1)?.offset === 119)
      expect(all().slice(100).map(({ offset }) => offset)).toEqual(Array.from({ length: 60 }, (_, i) => 60 + i))
      expect(all().slice(100, 140).every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
      expect(all().slice(140).some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
    }),
  20_000
)
