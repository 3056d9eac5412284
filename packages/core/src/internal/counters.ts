/**
 * What a subscription counts. Plain fields: they are written for every message.
 *
 * @internal
 */
export class Counters {
  received = 0
  handled = 0
  retried = 0
  restarted = 0
  deadLettered = 0
  dropped = 0
  held = 0
  undecodable = 0
  unknownType = 0
  tombstones = 0
  failed = 0
  lost = 0
}
