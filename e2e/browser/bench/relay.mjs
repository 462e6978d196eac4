// What it costs, in time and CPU, that publishers and subscribers sit on two servers of a cluster instead of one: `npm --prefix
// e2e/browser run bench:relay [-- --rounds N]`. Prints the table of docs/benchmarks.md ("From bridge to bridge").
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startRedis } from '../lib/redis.mjs';
import { binary, startBridge } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

/** Seconds that are measured, and ticks of the clock in one (Linux gives processes' CPU time in these). */
const SECONDS = 15;
const HERTZ = 100;
const SCENES = [
  { name: '1 publishes, 20 watch', publishers: 1, subscribers: 20, args: ['--layers', 1, '--bitrate', 1500] },
  { name: '5 publish, 20 watch 4', publishers: 5, subscribers: 20, args: ['--tiles', 4] },
];

const word = process.argv.indexOf('--rounds');
const rounds = word < 0 ? 1 : Math.max(1, Number(process.argv[word + 1]) || 1);

/** CPU time of a process so far, µs. */
function cpu({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * (1e6 / HERTZ);
}

async function measure({ publishers, subscribers, args }, apart) {
  const redis = await startRedis();
  // Who comes to a site sits there.
  const servers = await Promise.all(['eins', 'zwei'].map((name) => startBridge(redis, name, { RATSSAAL_SITE__NAME: name, RATSSAAL_MEDIA__WORKERS: '1' })));
  const used = apart ? servers : servers.slice(0, 1);
  const folder = mkdtempSync(join(tmpdir(), 'ratssaal-relay-'));
  const file = join(folder, 'load.json');
  const words = [
    'load', '--dev', '--url', servers[0].http, '--subscriber-url', used.at(-1).http, '--publishers', publishers, '--subscribers', subscribers,
    '--ramp', 20, '--settle', '5s', '--duration', `${SECONDS}s`, '--json', file, ...args,
  ];
  const load = spawn(binary(), words.map(String), { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = new Promise((resolve) => load.once('exit', resolve));
  const there = apart ? [publishers, subscribers] : [publishers + subscribers];
  await until('everybody is there', async () => {
    const now = await Promise.all(used.map((server) => server.metric('ratssaal_participants{state="active"}')));
    return now.every((count, at) => count === there[at]);
  });
  await new Promise((resolve) => setTimeout(resolve, 6000));
  const look = () => ({ cpu: used.map(cpu), at: performance.now() });
  const before = look();
  await new Promise((resolve) => setTimeout(resolve, (SECONDS - 3) * 1000));
  const after = look();
  const code = await ended;
  const result = JSON.parse(readFileSync(file, 'utf8'));
  rmSync(folder, { recursive: true, force: true });
  await Promise.all(servers.map((server) => server.stop()));
  await redis.stop();
  if (code !== 0) throw new Error(`ratssaal load ended with ${code}`);
  const perSecond = result.rates.packets_received_per_s;
  const packets = (perSecond * (after.at - before.at)) / 1000;
  return { result, perPacket: used.map((_, at) => (after.cpu[at] - before.cpu[at]) / packets), perSecond };
}

console.log('| case | servers | packets/s | CPU per delivered packet, µs: first server, second | latency p50, ms | p99, ms | lost |\n|---|---|---|---|---|---|---|');
for (const scene of SCENES) {
  for (let round = 0; round < rounds; round++) {
    for (const apart of [false, true]) {
      const { result: { clean }, perPacket, perSecond } = await measure(scene, apart);
      const { p50, p99 } = clean.forwarding_latency_ms;
      const figures = [perSecond.toFixed(0), perPacket.map((us) => us.toFixed(2)).join(', '), p50.toFixed(2), p99.toFixed(2), clean.audio.lost + clean.video.lost];
      console.log(`| ${[scene.name, apart ? 'two' : 'one', ...figures].join(' | ')} |`);
    }
  }
}
