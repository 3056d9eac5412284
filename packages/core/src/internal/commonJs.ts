/**
 * `yaml` is CommonJS on Node. In an ES module that esbuild makes of everything, its `require("process")` is the global one, which ES modules have
 * not, and the program ends while it is loaded. In such a bundle this makes one; elsewhere it changes nothing. It has to be imported before `yaml`.
 * Nothing of Node is imported for that: the rest of core runs elsewhere, too.
 */
const { url } = import.meta as { readonly url?: string }
const { process } = globalThis as { readonly process?: { readonly getBuiltinModule?: (name: string) => unknown } }

// Where nothing was bundled this module has a file of its own, and in a bundle of CommonJS it has no address.
if (url !== undefined && !/\/commonJs\.[jt]s(\?|$)/.test(url) && !("require" in globalThis)) {
  if (process?.getBuiltinModule !== undefined) Object.assign(globalThis, { require: process.getBuiltinModule })
}
