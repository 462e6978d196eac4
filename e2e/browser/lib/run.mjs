// Entry of `npm test` and `npm run bench`: runs them in a network namespace of their own, so that ports are free, nothing
// leaves the machine, and browsers find an address that is not loopback (Firefox ignores loopback candidates).
// Without the right to make one (or with E2E_URL) they run in the present network.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary, ours } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);

/** The namespace's network: loopback and one address on an interface that leads nowhere (a dummy, else a veth pair). */
const NETWORK = `
  ip link set lo up &&
  { ip link add ratssaal type dummy 2>/dev/null || { ip link add ratssaal type veth peer name ratssaal-far && ip link set ratssaal-far up; }; } &&
  ip address add 10.77.0.1/24 dev ratssaal &&
  ip link set ratssaal up &&
  ip route add default via 10.77.0.2 dev ratssaal &&
  { ip -6 address add fd77::1/64 dev ratssaal nodad || true; }`;

/** The `unshare` flags that work here, or null. */
function namespaceFlags() {
  for (const flags of [['--net'], ['--map-root-user', '--net']]) {
    if (spawnSync('unshare', [...flags, 'sh', '-c', NETWORK], { stdio: 'ignore' }).status === 0) return flags;
  }
  return null;
}

/** What node is asked to run: the file named on the command line, or all tests (or those named) one file after the other. */
function command(args) {
  if (args[0]?.startsWith('bench/')) return [process.execPath, ...args];
  const named = args.filter((arg) => arg.endsWith('.test.mjs'));
  const flags = args.filter((arg) => !arg.endsWith('.test.mjs'));
  const all = readdirSync(join(root, 'tests')).filter((name) => name.endsWith('.test.mjs')).map((name) => join('tests', name));
  // The limit is a whole file's; each wait in it has a nearer one of its own.
  return [process.execPath, '--test', '--test-concurrency=1', '--test-reporter=spec', '--test-timeout=600000', ...flags, ...(named.length > 0 ? named : all)];
}

if (ours && !process.env.E2E_URL) {
  // Here rather than in every test file.
  try {
    binary();
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
const [program, ...rest] = command(process.argv.slice(2));
const flags = process.env.E2E_URL ? null : namespaceFlags();
if (!flags && !process.env.E2E_URL) {
  console.error('No network namespace can be made here (run as root, or allow user namespaces): using the network as it is.');
}
const result = flags
  ? spawnSync('unshare', [...flags, 'sh', '-c', `${NETWORK} && exec "$@"`, 'sh', program, ...rest], { stdio: 'inherit', cwd: root })
  : spawnSync(program, rest, { stdio: 'inherit', cwd: root });
process.exit(result.status ?? 1);
