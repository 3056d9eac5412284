/**
 * The delivery contract as tests: one suite that every transport has to pass. Call it in a test file of vitest.
 *
 * @since 0.1.0
 */
import { describe } from "vitest"
import { type Subject, withStrategy } from "./conformance/Bench.js"
import { bounds } from "./conformance/bounds.js"
import { circuit } from "./conformance/circuit.js"
import { control } from "./conformance/control.js"
import { failures } from "./conformance/failures.js"
import { fairness } from "./conformance/fairness.js"
import { garbage } from "./conformance/garbage.js"
import { isolation } from "./conformance/isolation.js"
import { keysOrder } from "./conformance/keys.js"
import { lettersByHand } from "./conformance/letters.js"
import { lifecycle } from "./conformance/lifecycle.js"
import { order } from "./conformance/order.js"
import { parking } from "./conformance/parking.js"
import { presubscription } from "./conformance/presubscription.js"
import { readings } from "./conformance/readings.js"
import { revocation } from "./conformance/revocation.js"
import { settlement } from "./conformance/settlement.js"
import { storeLaws } from "./conformance/store.js"
import { succession } from "./conformance/succession.js"

export type {
  /**
   * @since 0.1.0
   */
  Subject
} from "./conformance/Bench.js"

/**
 * Registers the suite for a transport.
 *
 * @since 0.1.0
 * @category suites
 */
export const suite = (given: Subject): void => {
  const subject = withStrategy(given)
  describe(`the delivery contract on ${subject.name}`, () => {
    order(subject)
    keysOrder(subject)
    settlement(subject)
    failures(subject)
    control(subject)
    circuit(subject)
    parking(subject)
    bounds(subject)
    fairness(subject)
    isolation(subject)
    revocation(subject)
    garbage(subject)
    readings(subject)
    lifecycle(subject)
    presubscription(subject)
    // No message goes to a slot in these, or it makes no difference to which one.
    if (subject.strategy !== undefined) return
    storeLaws(subject)
    succession(subject)
    lettersByHand(subject)
  })
}
