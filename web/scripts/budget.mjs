// Fails when a bundle outgrows its budget: what is fetched before a meeting, and what the meeting adds.
// Counts compressed scripts and styles as the bridge sends them; reads the build's manifest.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const KILOBYTE = 1000
const BUDGET = { 'before the meeting': 250 * KILOBYTE, 'the meeting': 250 * KILOBYTE }

const dist = new URL('../dist/', import.meta.url)

/** The files of an entry and of everything it imports at once. */
function filesOf(manifest, key, found = new Set()) {
  const chunk = manifest[key]
  if (!chunk) throw new Error(`${key} is not in the build's manifest`)
  found.add(chunk.file)
  for (const style of chunk.css ?? []) found.add(style)
  for (const imported of chunk.imports ?? []) filesOf(manifest, imported, found)
  return found
}

let manifest
try {
  manifest = JSON.parse(readFileSync(new URL('manifest.json', dist), 'utf8'))
} catch {
  console.error('There is no build to measure. Run `npm run build` first.')
  process.exit(2)
}

const before = filesOf(manifest, 'index.html')
const call = new Set([...filesOf(manifest, 'src/call/Call.tsx')].filter((file) => !before.has(file)))
const size = (files) => [...files].reduce((sum, file) => sum + gzipSync(readFileSync(new URL(file, dist))).length, 0)

let passed = true
for (const [name, files] of [['before the meeting', before], ['the meeting', call]]) {
  const bytes = size(files)
  const fits = bytes <= BUDGET[name]
  passed &&= fits
  console.log(`${fits ? 'ok  ' : 'OVER'} ${name}: ${(bytes / KILOBYTE).toFixed(1)} kB of ${BUDGET[name] / KILOBYTE} kB (gzip, ${[...files].length} files)`)
}
if (!passed) {
  console.error('Load what is not needed at once with import(), or raise the budget in scripts/budget.mjs with a reason.')
  process.exit(1)
}
