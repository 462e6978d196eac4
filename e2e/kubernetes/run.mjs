// Entry of `make e2e-kubernetes`: starts clusters by scripts/kubernetes, runs the tests in them, ends them.
//
//   node e2e/kubernetes/run.mjs [charts] [image] [installation] [drain]      all but drain by default
//
// `charts` needs a control plane only, no root. Real nodes need root: browsers run in the cluster's client namespace. E2E_KEEP=1 leaves the clusters running and says where.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, '../..');
const binary = process.env.RATSSAAL_BIN ?? join(repository, 'target/debug/ratssaal');
const SUITES = {
  charts: { nodes: 0, minutes: 4 },
  image: { nodes: 1, minutes: 5, needs: ['nodes', 'browsers', 'prometheus'] },
  installation: { nodes: 2, minutes: 16, needs: ['nodes', 'browsers', 'prometheus', 'redis'], redis: true, builds: 2 },
  // A measurement for docs/benchmarks.md.
  drain: { nodes: 2, minutes: 6, needs: ['nodes', 'redis'], redis: true, named: true },
};

const say = (text) => console.error(`==> ${text}`);

function must(program, args, how = {}) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', ...how });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
}

async function suite(name, { nodes, grace, minutes, needs, redis, builds = 1 }) {
  const run = mkdtempSync(join(tmpdir(), 'rk-'));
  const versions = [];
  const scripts = (script, ...args) => must(join(repository, 'scripts', script), args);
  try {
    if (needs) scripts('need', ...needs);
    if (nodes > 0) {
      const images = await import('./lib/images.mjs');
      mkdirSync(join(run, 'images'));
      say('Images');
      await images.ratssaal(join(run, 'images'), binary, '1');
      versions.push(await images.versionOf(binary));
      if (builds > 1) {
        const other = await images.anotherBuild(run, binary);
        await images.ratssaal(join(run, 'images'), other.binary, '2');
        versions.push(other.version);
      }
      if (redis) await images.redis(join(run, 'images'));
    }
    say(`Kubernetes, ${nodes === 0 ? 'control plane only' : `${nodes} nodes`}`);
    scripts('kubernetes', 'up', run, '--nodes', String(nodes), ...(grace ? ['--grace', String(grace)] : []));
    const tests = [process.execPath, '--test', '--test-concurrency=1', '--test-reporter=spec', `--test-timeout=${minutes * 60_000}`, join(here, `tests/${name}.test.mjs`)];
    const { tag } = Object.fromEntries(readFileSync(join(run, 'cluster'), 'utf8').trim().split(' ').map((pair) => pair.split('=')));
    const [program, ...args] = nodes > 0 ? ['nsenter', `--net=/run/netns/${tag}-client`, ...tests] : tests;
    return spawnSync(program, args, { stdio: 'inherit', env: { ...process.env, E2E_CLUSTER: run, E2E_VERSIONS: versions.join(' '), RATSSAAL_BIN: binary } }).status === 0;
  } finally {
    if (process.env.E2E_KEEP) {
      say(`The cluster is left in ${run}; end it: scripts/kubernetes down ${run}`);
    } else {
      spawnSync(join(repository, 'scripts/kubernetes'), ['down', run], { stdio: 'inherit' });
      rmSync(run, { recursive: true, force: true });
    }
  }
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !SUITES[name]);
if (unknown.length > 0) {
  console.error(`error: there is no suite ${unknown.join(', ')}; there are ${Object.keys(SUITES).join(', ')}`);
  process.exit(64);
}
// Missing Go or root: said loudly and counted, not passed over.
const skipped = [];
let failed = false;
for (const [name, how] of Object.entries(SUITES)) {
  if (wanted.length > 0 ? !wanted.includes(name) : how.named) continue;
  const why = spawnSync('go', ['version']).status !== 0 ? 'Go is not here (https://go.dev/dl)' : how.nodes > 0 && process.getuid() !== 0 ? 'real nodes need root' : '';
  if (why) {
    skipped.push(name);
    console.error(`SKIPPED: Kubernetes test "${name}": ${why}`);
  } else if (!(await suite(name, how))) {
    failed = true;
  }
}
console.log(`kubernetes: ${skipped.length} suites skipped${skipped.length > 0 ? ` (${skipped.join(', ')})` : ''}`);
process.exit(failed ? 1 : 0);
