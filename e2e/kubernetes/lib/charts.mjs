// The charts, and the ones that come after them.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './cluster.mjs';

export const chart = (name) => join(repository, 'charts', name);

/** A copy of a chart in the folder, with the next version; `{ path, version }`. */
export function nextChart(folder, name) {
  const path = join(folder, `${name}-next`);
  cpSync(chart(name), path, { recursive: true });
  const file = join(path, 'Chart.yaml');
  const text = readFileSync(file, 'utf8');
  const [, begin, patch] = /^version: (\d+\.\d+\.)(\d+)$/m.exec(text);
  const version = `${begin}${Number(patch) + 1}`;
  writeFileSync(file, text.replace(/^version: .*$/m, `version: ${version}`));
  return { path, version };
}
