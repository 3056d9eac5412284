import * as ParseResult from "effect/ParseResult"
import type * as AST from "effect/SchemaAST"
import * as Safely from "./safely.js"

/** How many differences are named, and how long the whole text may be. */
const maxLines = 8
const maxLength = 1_000
const maxExpected = 120
const maxDepth = 32

/**
 * What a Schema found wrong, by path, expected type and kind of value: `["total"]: expected number, found a string`. No value is in it: values
 * are payload. Messages that a Schema was annotated with are left out, because they may name values; so are
 * keys that the Schema does not name, which are data of a record (`["*"]`).
 *
 * @internal
 */
export const format = (issue: ParseResult.ParseIssue): string => {
  const lines: Array<string> = []
  collect(issue, "", undefined, lines, 0)
  const more = lines.length > maxLines ? "; …" : ""
  return Safely.cut(lines.slice(0, maxLines).join("; ") + more, maxLength)
}

/**
 * The error of a Schema for programs. `issue` has everything, with the values. Printing the error shows no values.
 *
 * @internal
 */
export class DiscreetParseError extends ParseResult.ParseError {
  override get message() {
    return this.toString()
  }
  override toString() {
    return format(this.issue)
  }
}

const collect = (
  issue: ParseResult.ParseIssue,
  path: string,
  parent: AST.AST | undefined,
  lines: Array<string>,
  depth: number
): void => {
  // One more than is shown, which tells that there are more.
  if (lines.length > maxLines) return
  const at = path === "" ? "" : `${path}: `
  if (depth > maxDepth) {
    lines.push(`${at}not as expected`)
    return
  }
  switch (issue._tag) {
    case "Pointer": {
      const names = [issue.path].flat() as ReadonlyArray<PropertyKey>
      const further = names.map((name, i) => step(name, i === 0 ? parent : undefined)).join("")
      return collect(issue.issue, path + further, undefined, lines, depth + 1)
    }
    case "Composite": {
      const issues = [issue.issues].flat() as ReadonlyArray<ParseResult.ParseIssue>
      if (issue.ast._tag === "Union" && issues.every(({ _tag }) => _tag === "Type")) {
        lines.push(`${at}expected ${expected(issue.ast)}, found ${kindOf(issue.actual)}`)
        return
      }
      for (const one of issues) collect(one, path, issue.ast, lines, depth + 1)
      return
    }
    case "Refinement":
    case "Transformation": {
      // The description of a filter or a transformation may have the value in it. So only the type is shown.
      const inner = issue.issue
      if (inner._tag !== "Type") return collect(inner, path, issue.ast, lines, depth + 1)
      lines.push(`${at}expected ${expected(inner.ast)}, found ${kindOf(inner.actual)}`)
      return
    }
    case "Missing":
      lines.push(`${at}is missing`)
      return
    case "Unexpected":
      lines.push(`${at}is not expected`)
      return
    case "Forbidden":
      lines.push(`${at}is forbidden`)
      return
    case "Type":
      lines.push(`${at}expected ${expected(issue.ast)}, found ${kindOf(issue.actual)}`)
  }
}

const step = (name: PropertyKey, parent: AST.AST | undefined): string =>
  typeof name === "number" ? `[${name}]` : `["${isNamed(parent, name, 0) ? Safely.cut(String(name), 100) : "*"}"]`

/** Whether a Schema names the key, so that it isn't data. */
const isNamed = (ast: AST.AST | undefined, name: PropertyKey, depth: number): boolean => {
  if (ast === undefined || depth > maxDepth) return false
  switch (ast._tag) {
    case "TypeLiteral":
      return ast.propertySignatures.some((signature) => signature.name === name)
    case "Union":
      return ast.types.some((one) => isNamed(one, name, depth + 1))
    case "Refinement":
      return isNamed(ast.from, name, depth + 1)
    case "Transformation":
      return isNamed(ast.from, name, depth + 1) || isNamed(ast.to, name, depth + 1)
    case "Suspend":
      return isNamed(ast.f(), name, depth + 1)
    case "Declaration":
      return ast.typeParameters.some((one) => isNamed(one, name, depth + 1))
    default:
      return false
  }
}

const expected = (ast: AST.AST): string => {
  try {
    return Safely.cut(String(ast), maxExpected)
  } catch {
    return "another type"
  }
}

const kindOf = (value: unknown): string => {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return "an array"
  return typeof value === "object" ? "an object" : `a ${typeof value}`
}
