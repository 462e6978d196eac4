// The images of the test, without a registry: ours from the binary under test, Redis from Debian's.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, repository } from './cluster.mjs';

/** Our image, as a build of that version would be called: an upgrade goes from one tag to another. */
export async function ratssaal(folder, binary, tag) {
  await output(join(repository, 'scripts/image'), ['--binary', binary, '--name', `test.local/ratssaal:${tag}`, '--fast', '--client', join(folder, `ratssaal-${tag}.tar`)]);
}

/** What a binary says of itself, e.g. 0.1.0. */
export const versionOf = async (binary) => /^ratssaal (\d+\.\d+\.\d+)$/m.exec(await output(binary, ['--version']))[1];

/** Another build without building: the binary with the next version in place of its own wherever it stands; `{ binary, version }`. */
export async function anotherBuild(folder, binary) {
  const before = await versionOf(binary);
  const version = before.slice(0, -1) + (Number(before.at(-1)) + 1) % 10;
  const content = readFileSync(binary);
  for (let at = content.indexOf(before); at >= 0; at = content.indexOf(before, at + before.length)) content.write(version, at);
  const other = join(folder, 'ratssaal-other');
  writeFileSync(other, content, { mode: 0o755 });
  const said = await versionOf(other);
  if (said !== version) throw new Error(`the other build says ${said}, not ${version}`);
  return { binary: other, version };
}

/** Redis as the operator runs it: `redis-server` and a shell-free root folder. */
export async function redis(folder) {
  const root = mkdtempSync(join(tmpdir(), 'redis-image-'));
  const script = `
    set -euo pipefail
    source "$1/scripts/oci.sh"
    binary=$(readlink -f "$(command -v redis-server)")
    mkdir -p "$2"/{usr/bin,usr/local/bin,data,tmp,etc}
    chmod 1777 "$2/tmp" "$2/data"
    cp "$binary" "$2/usr/bin/redis-server"
    for program in redis-cli; do cp "$(readlink -f "$(command -v $program)")" "$2/usr/bin/$program"; done
    for library in $(ldd "$binary" "$(command -v redis-cli)" | grep -o '/[^ ]*' | grep -v ':$' | sort -u); do install -D -m 755 "$(readlink -f "$library")" "$2$library"; done
    echo 'redis:x:999:999::/data:/sbin/nologin' > "$2/etc/passwd"
    oci_archive "$3" test.local/redis:1 "$2" '{"Entrypoint":["/usr/bin/redis-server"],"Env":["PATH=/usr/bin"],"User":"999:999","WorkingDir":"/data"}'`;
  await output('bash', ['-c', script, 'bash', repository, root, join(folder, 'redis.tar')]);
  rmSync(root, { recursive: true });
}
