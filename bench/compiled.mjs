/**
 * Loaded before a measurement: our packages come as they are published, compiled, and not from their sources, which a
 * loader would have to translate, with other costs than users have.
 */
import { register } from "node:module"

const hooks = `
const source = /\\/packages\\/(core|kafka|nats)\\/src\\/(.+)\\.ts$/
export const resolve = async (specifier, context, next) => {
  const resolved = await next(specifier, context)
  return { ...resolved, url: resolved.url.replace(source, "/packages/$1/dist/$2.js"), format: undefined }
}
`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
