import { existsSync, readdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { root } from "./lib/install.mjs"

const isFolder = (path) => existsSync(path) && statSync(path).isDirectory()
const below = (folder) =>
  isFolder(join(root, folder)) ? readdirSync(join(root, folder)).map((name) => join(folder, name)) : []

for (const folder of [".", "examples", ...below("packages"), ...below("tools")]) {
  if (!isFolder(join(root, folder))) continue
  for (const entry of readdirSync(join(root, folder))) {
    if (entry === "dist" || entry === "build" || entry.endsWith(".tsbuildinfo")) {
      rmSync(join(root, folder, entry), { recursive: true, force: true })
    }
  }
}
