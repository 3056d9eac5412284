import * as effect from "@effect/eslint-plugin"
import js from "@eslint/js"
import sortDestructureKeys from "eslint-plugin-sort-destructure-keys"
import tseslint from "typescript-eslint"

/** dprint as Effect's own repository sets it; it also sorts imports and what they name. */
const dprint = {
  indentWidth: 2,
  lineWidth: 120,
  semiColons: "asi",
  quoteStyle: "alwaysDouble",
  trailingCommas: "never",
  operatorPosition: "maintain",
  "arrowFunction.useParentheses": "force"
}

export default tseslint.config(
  { ignores: ["**/node_modules", "**/dist", "**/build", "**/coverage", "**/docs", "**/scratch"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  tseslint.configs.recommended,
  effect.configs.dprint,
  {
    plugins: { "sort-destructure-keys": sortDestructureKeys },
    rules: {
      "@effect/dprint": ["error", { config: dprint }],
      // A generator that yields nothing is a valid effect.
      "require-yield": "off",
      "object-shorthand": "error",
      "no-duplicate-imports": ["error", { allowSeparateTypeImports: true }],
      "sort-destructure-keys/sort-destructure-keys": "error",
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/consistent-type-imports": ["error", { disallowTypeAnnotations: false }],
      // `Service`, `Options` and `{}` in declared classes are Effect's idiom.
      "@typescript-eslint/no-empty-object-type": "off",
      // Indexing is checked by hand where `noUncheckedIndexedAccess` would only add noise to hot loops.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": ["error", {
        argsIgnorePattern: "^_",
        varsIgnorePattern: "^_",
        caughtErrors: "all",
        ignoreRestSiblings: true
      }]
    }
  },
  {
    files: ["packages/*/src/**/*.ts", "tools/*/src/**/*.ts"],
    rules: {
      "no-console": "error",
      "no-restricted-syntax": ["error", {
        selector: "CallExpression[callee.property.name='push'] > SpreadElement.arguments",
        message: "Do not use spread arguments in Array.push: a long array overflows the stack."
      }],
      // In src each module is imported by its own path, so that a bundle holds what is used.
      "@effect/no-import-from-barrel-package": ["error", {
        packageNames: ["effect", "@effect/platform", "@effect/platform-node"]
      }]
    }
  },
  {
    files: ["**/*.mjs"],
    languageOptions: { globals: { process: "readonly", URL: "readonly" } }
  }
)
