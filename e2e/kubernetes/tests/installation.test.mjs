// A county's installation on real nodes, from `helm install` on, while two people in Chromium stay in a meeting: browsers
// stand outside the cluster, behind a load balancer of their own.
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { launch } from '../../browser/lib/browsers.mjs';
import { Guest } from '../../browser/lib/guest.mjs';
import { steps } from '../../browser/lib/steps.mjs';
import { until } from '../../browser/lib/wait.mjs';
import { Balancer } from '../lib/balancer.mjs';
import { HOST, certificate } from '../lib/certificate.mjs';
import { Cluster, output, repository } from '../lib/cluster.mjs';
import { Prometheus } from '../lib/prometheus.mjs';
import { NAME, NODE_PORT, SPACE, condition, readyBridges, videoConference } from '../lib/installation.mjs';

const CLIENT = '10.77.0.50';
const SYSTEM = 'ratssaal-system';
const address = (node) => `10.77.0.${10 + Number(node.replace('node', ''))}`;
/** What people open: the load balancer on the client's side. */
const URL_ = `https://${HOST}:${NODE_PORT}`;
const chart = (name) => join(repository, 'charts', name);

/** The operator's values: its image, and what helm test is to look at. */
const operator = (tag) => [
  '--set=image.repository=test.local/ratssaal', `--set-string=image.tag=${tag}`, '--set=image.pullPolicy=Never',
  `--set=doctor.url=${URL_}`, `--set=doctor.address=${address('node1')}`, '--set=doctor.caConfigMap=landkreis-ca',
];

describe('an installation on real nodes', () => {
  const step = told(steps());
  let cluster, files, balancer, browsers, prometheus, anna, bela, people, room;
  /** What is measured, for docs/benchmarks.md. */
  const times = {};

  /** Steps that say what the cluster looks like when one fails. */
  function told(step) {
    return (name, run) => step(name, async (context) => {
      try {
        await run(context);
      } catch (error) {
        console.log(cluster.report(SPACE));
        throw error;
      }
    });
  }

  const awaits = (what, matches, ms) => cluster.awaits(what, ['--namespace', SPACE, 'vconf', NAME], matches, ms);
  const others = (guest) => people.filter((other) => other !== guest);

  /** Everybody sees and hears everybody else, now. */
  async function together() {
    for (const guest of people) {
      for (const other of others(guest)) await guest.sees(other);
      await guest.hears(...others(guest).map(({ hertz }) => hertz));
    }
  }

  /** What the doctor says from outside the cluster: it joins, as people do. */
  const doctor = () => output(process.env.RATSSAAL_BIN, ['doctor', `--url=${URL_}`, `--address=${CLIENT}`, `--ca=${files.authority}`]);

  /** On which node somebody's media goes: a host port of its address. */
  async function nodeOf(guest) {
    const remote = await until(`${guest.name}'s media address`, () => guest.call('remote'));
    return `node${Number(/^10\.77\.0\.(\d+):/.exec(remote)[1]) - 10}`;
  }

  before(async () => {
    cluster = new Cluster(process.env.E2E_CLUSTER);
    const folder = join(cluster.run, 'files');
    mkdirSync(folder, { recursive: true });
    files = await certificate(folder);
    // The cluster's DNS knows the county's name.
    appendFileSync(join(cluster.run, 'hosts'), `${CLIENT} ${HOST}\n`);
    balancer = await Balancer.open(CLIENT, NODE_PORT);
    balancer.nodes = ['node1', 'node2'].map(address);
  });

  after(async () => {
    console.log(`measured, ms: ${JSON.stringify(times)}`);
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await prometheus?.stop();
    await balancer?.close();
  });

  step('helm install of both charts', async () => {
    await cluster.helm('install', 'ratssaal-crds', chart('ratssaal-crds'), '--namespace', SYSTEM, '--create-namespace');
    await cluster.kubectl('--namespace', SYSTEM, 'create', 'configmap', 'landkreis-ca', `--from-file=ca.crt=${files.authority}`);
    await cluster.helm('install', 'ratssaal', chart('ratssaal'), '--namespace', SYSTEM, ...operator('1'), '--wait', '--timeout=90s');
  });

  step('one resource becomes an installation', async () => {
    await cluster.kubectl('create', 'namespace', SPACE);
    await cluster.kubectl('label', 'namespace', SPACE, 'pod-security.kubernetes.io/enforce=privileged');
    await cluster.kubectl('--namespace', SPACE, 'create', 'secret', 'tls', 'konferenz-tls', `--cert=${files.certificate}`, `--key=${files.key}`);
    const start = performance.now();
    await cluster.apply([videoConference('1', { sites: [{ name: 'rathaus', bridges: { perNode: true, seats: 1 } }] })]);
    await awaits('it is Ready with a bridge on each node', (object) => condition(object, 'Ready') === 'True' && Object.keys(readyBridges(object)).length === 2);
    // A store that has just begun lets nobody in for 3 s.
    assert.match(await until('the doctor joins from outside', doctor, 20_000), /^udp +ok/m);
    times.applyToJoinable = Math.round(performance.now() - start);
  });

  step('the doctor finds nothing wrong as helm test either', async () => {
    // There are two seats, and it takes both.
    await awaits('the seats are free again', ({ status }) => status.participants === 0 && status.freeSeats === 2);
    assert.match(await cluster.helm('test', 'ratssaal', '--namespace', SYSTEM, '--logs', '--timeout=90s'), /^udp +ok/m);
  });

  step('two people meet, on bridges of different nodes', async () => {
    const args = [`--host-resolver-rules=MAP ${HOST} ${CLIENT}`, `--ignore-certificate-errors-spki-list=${files.pin}`];
    browsers = await Promise.all([launch('chromium', { args }), launch('chromium', { args })]);
    const server = { http: URL_ };
    anna = await Guest.open(browsers[0], server, { name: 'Anna Albers', hue: 0, hertz: 440 });
    bela = await Guest.open(browsers[1], server, { name: 'Bela Bräuer', hue: 120, hertz: 1000 });
    people = [anna, bela];
    await anna.goto('/');
    await anna.click('open-submit');
    await anna.find('name-input');
    room = new URL(anna.page.url()).pathname;
    await anna.enter();
    await bela.goto(room);
    await bela.enter();
    await together();
    const nodes = [await nodeOf(anna), await nodeOf(bela)];
    assert.deepEqual([...nodes].sort(), ['node1', 'node2']);
  });

  step('a third node joins and gets a bridge and seats without any other action', async () => {
    // Rates are of what happens while it is watched.
    prometheus = await Prometheus.start(cluster);
    await cluster.machine('node', 3);
    const start = performance.now();
    // The two others have one seat each, which are taken.
    await awaits('node3 has a bridge that takes people', (object) => readyBridges(object).node3 && object.status.participants === 2 && object.status.freeSeats >= 1);
    times.nodeReadyToBridge = Math.round(performance.now() - start);
    balancer.nodes.push(address('node3'));
    await together();
  });

  step('every query of the operator\'s dashboard has data in a real Prometheus', async () => {
    await until('no panel is empty', async () => {
      const { queries, empty } = await prometheus.empty(['operator']);
      if (empty.length === 0) return queries;
      throw new Error(`${empty.length} of ${queries}: ${empty.join('\n')}`);
    }, 40_000);
  });
});
