/**
 * The exact text of a top-level member's value in the text of a JSON object. The
 * text must be known to be valid JSON (it went through `JSON.parse`). Of several
 * members with the name the last counts, as for `JSON.parse`.
 *
 * @internal
 */
export const jsonMember = (text: string, name: string): string | undefined => {
  let found: string | undefined
  let i = skipSpace(text, text.indexOf("{") + 1)
  while (text[i] === "\"") {
    const keyEnd = stringEnd(text, i)
    const key = text.slice(i, keyEnd)
    const start = skipSpace(text, skipSpace(text, keyEnd) + 1)
    const end = valueEnd(text, start)
    if (key === `"${name}"` || (key.includes("\\") && JSON.parse(key) === name)) found = text.slice(start, end)
    i = skipSpace(text, end)
    if (text[i] !== ",") break
    i = skipSpace(text, i + 1)
  }
  return found
}

const skipSpace = (text: string, from: number): number => {
  let i = from
  while (text[i] === " " || text[i] === "\n" || text[i] === "\r" || text[i] === "\t") i++
  return i
}

/** The index behind the string that begins at `from`. */
const stringEnd = (text: string, from: number): number => {
  let i = from + 1
  while (text[i] !== "\"") i += text[i] === "\\" ? 2 : 1
  return i + 1
}

/** The index behind the value that begins at `from`. */
const valueEnd = (text: string, from: number): number => {
  const first = text[from]
  if (first === "\"") return stringEnd(text, from)
  if (first !== "{" && first !== "[") {
    let i = from
    while (i < text.length && !",}] \n\r\t".includes(text[i]!)) i++
    return i
  }
  let depth = 0
  let i = from
  do {
    const char = text[i]!
    if (char === "\"") {
      i = stringEnd(text, i)
      continue
    }
    if (char === "{" || char === "[") depth++
    else if (char === "}" || char === "]") depth--
    i++
  } while (depth > 0)
  return i
}
