// Puts a gzip beside every text file of the build; the bridge sends it to browsers that accept it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const dist = fileURLToPath(new URL('../dist', import.meta.url))
const TEXT = /\.(html|js|css|svg|json)$/
/** Below this many bytes nothing is gained. */
const LEAST = 600

for (const name of readdirSync(dist, { recursive: true })) {
  if (!TEXT.test(name)) continue
  const content = readFileSync(join(dist, name))
  if (content.length >= LEAST) writeFileSync(join(dist, `${name}.gz`), gzipSync(content, { level: 9 }))
}
