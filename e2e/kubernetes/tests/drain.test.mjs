// Ten people on the bridge of one node, which is drained: how long `kubectl drain` takes, and how long media is away from them.
// They are `ratssaal load`, which stands outside the cluster and comes back where it is sent.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chart } from '../lib/charts.mjs';
import { Cluster } from '../lib/cluster.mjs';
import { NAME, SPACE, apiKey, condition, readyBridges, videoConference, whereabouts } from '../lib/installation.mjs';

const SYSTEM = 'ratssaal-system';
const PEOPLE = 10;
const PUBLISHERS = 3;
/** What the load measures, s: longer than the drain takes, debug build on two cores. */
const MEASURED = 60;

test('ten people are moved off a node that is drained', async () => {
  const cluster = new Cluster(process.env.E2E_CLUSTER);
  const awaits = (what, matches, ms) => cluster.awaits(what, ['--namespace', SPACE, 'vconf', NAME], matches, ms);
  const bridgesOn = (...nodes) => (object) => condition(object, 'Ready') === 'True' && String(Object.keys(readyBridges(object)).sort()) === String(nodes);
  try {
    // Redis is to be on the node that stays: what is measured is the bridge's drain.
    await cluster.kubectl('taint', 'nodes', 'node2', 'e2e=later:PreferNoSchedule');
    await cluster.helm('install', 'ratssaal-crds', chart('ratssaal-crds'), '--namespace', SYSTEM, '--create-namespace');
    await cluster.helm('install', 'ratssaal', chart('ratssaal'), '--namespace', SYSTEM, '--set=image.repository=test.local/ratssaal', '--set-string=image.tag=1', '--set=image.pullPolicy=Never', '--wait', '--timeout=90s');
    await cluster.kubectl('create', 'namespace', SPACE);
    await cluster.kubectl('label', 'namespace', SPACE, 'pod-security.kubernetes.io/enforce=privileged');
    // The load speaks plain HTTP, as a proxy in front of the bridges does.
    const spec = { tls: undefined, exposure: { ingress: {} }, sites: [{ name: 'rathaus', bridges: { perNode: true, seats: 2 * PEOPLE } }] };
    await cluster.apply([videoConference('1', spec)]);
    await awaits('a bridge on each node', bridgesOn('node1', 'node2'), 90_000);
    await cluster.kubectl('taint', 'nodes', 'node2', 'e2e-');
    assert.equal((await whereabouts(cluster)).redis, 'node1');

    // Everybody comes to node2: node1 is closed meanwhile.
    await cluster.kubectl('cordon', 'node1');
    await awaits('a bridge on node2 alone', (object) => bridgesOn('node2')(object) && object.status.bridges.length === 1, 60_000);
    const { key, secret } = await apiKey(cluster);
    const { spec: { clusterIP } } = await cluster.get('--namespace', SPACE, 'service', NAME);
    const file = join(cluster.run, 'load.json');
    const people = ['--publishers', PUBLISHERS, '--subscribers', PEOPLE - PUBLISHERS, '--tiles', 4, '--ramp', 20];
    const args = ['load', '--url', `http://${clusterIP}:80`, '--rejoin', ...people, '--settle', '3s', '--duration', `${MEASURED}s`, '--json', file];
    const load = spawn(process.env.RATSSAAL_BIN, args.map(String), { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, LIVEKIT_API_KEY: key, LIVEKIT_API_SECRET: secret } });
    process.once('exit', () => load.kill('SIGKILL'));
    const ended = new Promise((resolve) => load.once('exit', resolve));
    await awaits('all sit there', ({ status }) => status.participants === PEOPLE);
    await cluster.kubectl('uncordon', 'node1');
    await awaits('there is room on node1', bridgesOn('node1', 'node2'), 60_000);

    console.log(`drain of node2: ${JSON.stringify(await whereabouts(cluster))}`);
    const start = performance.now();
    const since = () => Math.round(performance.now() - start);
    const moved = awaits('all sit on node1', ({ status: { bridges } }) => bridges.some(({ node, participants }) => node === 'node1' && participants === PEOPLE), 120_000).then(since);
    await cluster.kubectl('drain', 'node2', '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=120s');
    const drained = since();
    const times = { allOnNode1: await moved, drained };
    assert.equal(load.exitCode, null, 'the load still measures');
    assert.equal(await ended, 0, 'nobody was out');
    const { joins } = JSON.parse(readFileSync(file, 'utf8'));
    console.log(`measured, ms: ${JSON.stringify({ ...times, rejoined: joins.rejoined, away: joins.away_ms })}`);
    assert.ok(joins.rejoined >= PEOPLE, `${joins.rejoined} came back`);
  } catch (error) {
    console.log(cluster.report(SPACE));
    throw error;
  }
});
