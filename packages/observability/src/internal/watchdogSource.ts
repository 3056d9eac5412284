/**
 * Where things are in the memory that the event loop's thread shares with its watchdog, in bytes; the states in `Int32`s.
 *
 * @internal
 */
export const bytes = 1_024
/** @internal */
export const beats = 0
/** @internal */
export const seen = 1
/** The subscription's number, the partition and the offset of the handler that started last. @internal */
export const numbers = 64
/** Its aggregate id: the length, and so many UTF-16 units. @internal */
export const text = 128
/** Behind it both stand again, as they were when the loop stood still. @internal */
export const copy = 512

/**
 * What the watchdog's thread runs. It is a text, so that no bundler has to find a file. It writes to the file descriptor of stderr itself,
 * because a worker's `console` goes through the thread that stands still.
 *
 * @internal
 */
export const source = `
const { parentPort, workerData } = require("node:worker_threads")
const { writeSync } = require("node:fs")
const { shared, every, blockedAfter, says } = workerData
const states = new Int32Array(shared)
const whole = new Uint8Array(shared)
const numbers = new Float64Array(shared, ${numbers + copy}, 3)
const text = new Uint16Array(shared, ${text + copy}, 65)
const names = new Map()
parentPort.on("message", ([index, name]) => names.set(index, name))
let last = 0
let turns = 0
let saidAt = 0
const seconds = () => Math.round(turns * every / 100) / 10
const say = (level, message, more) => {
  if (!says) return
  try {
    writeSync(2, "timestamp=" + new Date().toISOString() + " level=" + level + " fiber=#watchdog message=" + JSON.stringify(message) + more + "\\n")
  } catch {
    // Nobody reads stderr any more, or its pipe is full: the thread must not end of it, and there is nobody else to tell.
  }
}
const noted = () => {
  whole.copyWithin(${numbers + copy}, ${numbers}, ${copy})
  Atomics.add(states, ${seen}, 1)
}
const started = () => {
  const name = names.get(numbers[0])
  if (name === undefined) return ""
  const aggregateId = String.fromCharCode(...text.slice(1, text[0] + 1))
  return " subscription=" + JSON.stringify(name) + " partition=" + numbers[1] + " offset=" + numbers[2] +
    (aggregateId === "" ? "" : " aggregateId=" + JSON.stringify(aggregateId))
}
setInterval(() => {
  const now = Atomics.load(states, ${beats})
  if (now !== last) {
    if (saidAt > 0) say("WARN", "The event loop goes on. It stood still for " + seconds() + " s", "")
    last = now
    turns = 0
    saidAt = 0
    return
  }
  turns++
  if (turns * every < blockedAfter || saidAt > 0 && (turns - saidAt) * every < 60000) return
  if (saidAt === 0) noted()
  saidAt = turns
  say("ERROR", "The event loop stands still, for " + seconds() + " s: code that never waits keeps it from everything, timers, heartbeats " +
    "and health requests included. The handler that started last is named here", started())
}, every)
`
