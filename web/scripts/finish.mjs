// After the build: adds the font's licence to those of the libraries, and puts a gzip beside every text file,
// which the bridge sends to browsers that accept it.
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const dist = fileURLToPath(new URL('../dist', import.meta.url))
const TEXT = /\.(html|js|css|svg|json|txt)$/
/** Below this many bytes nothing is gained. */
const LEAST = 600

// Vite lists what is imported by scripts; the font comes in by a style sheet.
const font = '@fontsource-variable/atkinson-hyperlegible-next'
const licence = readFileSync(createRequire(import.meta.url).resolve(`${font}/LICENSE`), 'utf8')
appendFileSync(join(dist, 'licenses.txt'), `\n## ${font} (OFL-1.1)\n\n${licence}`)

for (const name of readdirSync(dist, { recursive: true })) {
  if (!TEXT.test(name)) continue
  const content = readFileSync(join(dist, name))
  if (content.length >= LEAST) writeFileSync(join(dist, `${name}.gz`), gzipSync(content, { level: 9 }))
}
