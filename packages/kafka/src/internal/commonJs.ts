/**
 * `kafkajs` is CommonJS, as is some of what `@platformatic/kafka` needs. In an ES module that esbuild makes of everything, their
 * `require("net")` is the global one, which ES modules have not, and the program ends while it is loaded. In such a bundle this makes
 * one; elsewhere it changes nothing. It has to be imported before them.
 */
import { createRequire } from "node:module"

const { url } = import.meta as { readonly url?: string }

// Where nothing was bundled this module has a file of its own, and in a bundle of CommonJS it has no address.
if (url !== undefined && !/\/commonJs\.[jt]s(\?|$)/.test(url) && !("require" in globalThis)) {
  Object.assign(globalThis, { require: createRequire(url) })
}
