// What an OCI archive holds, read by tar: configuration and files of its one image.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { output } from './cluster.mjs';

const read = (archive, name) => output('tar', ['--extract', '--to-stdout', `--file=${archive}`, name]).then(JSON.parse);
const blob = (digest) => `./blobs/${digest.replace(':', '/')}`;

/** `{ config, files }`: the image's configuration, and its files as `tar --verbose` lists them. */
export async function image(archive) {
  const index = await read(archive, './index.json');
  const manifest = await read(archive, blob(index.manifests[0].digest));
  const { config } = await read(archive, blob(manifest.config.digest));
  const list = 'tar --extract --to-stdout --file="$1" "$2" | tar --list --verbose --numeric-owner --file=-';
  const files = await output('bash', ['-euo', 'pipefail', '-c', list, 'bash', archive, blob(manifest.layers[0].digest)]);
  return { config, files: files.trim().split('\n') };
}

export const digest = (file) => createHash('sha256').update(readFileSync(file)).digest('hex');
