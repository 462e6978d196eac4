// The charts and examples against a real API server: what helm renders is accepted, wrong values are refused with a sentence,
// and what a release looks like is kept in charts/snapshots (UPDATE_SNAPSHOTS=1 writes them anew).
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { Cluster, repository } from '../lib/cluster.mjs';

const charts = join(repository, 'charts');
const SYSTEM = 'ratssaal-system';

/** What of Prometheus' operator the charts use, without its schema. */
const monitoring = ['PodMonitor', 'PrometheusRule'].map((kind) => {
  const plural = `${kind.toLowerCase()}s`;
  return {
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `${plural}.monitoring.coreos.com` },
    spec: {
      group: 'monitoring.coreos.com', scope: 'Namespaced', names: { kind, plural, singular: kind.toLowerCase() },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } } }],
    },
  };
});

/** Releases: the chart's values, and what must (not) be in them. */
const RELEASES = {
  plain: [],
  namespaced: ['--set=namespaces={konferenz,nachbarstadt}'],
  everything: [
    '--set=replicas=2', '--set=videoConference.create=true', '--set=videoConference.spec.hostname=konferenz.landkreis.example',
    '--set=videoConference.spec.tls.secretName=konferenz-tls', '--set=monitoring.podMonitor.enabled=true', '--set=monitoring.prometheusRule.enabled=true',
    '--set=monitoring.dashboards.enabled=true', '--set=doctor.caSecret=own-ca', '--set=image.pullSecrets[0].name=registry', '--set=otlpEndpoint=http://collector.monitoring:4317',
  ],
};

describe('charts and examples', () => {
  let cluster;

  before(async () => {
    cluster = new Cluster(process.env.E2E_CLUSTER);
    await cluster.apply(monitoring);
    await cluster.kubectl('apply', '--server-side', '--filename', join(charts, 'ratssaal-crds/templates/videoconference.yaml'));
    await cluster.kubectl('wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all');
    await cluster.apply([SYSTEM, 'konferenz', 'nachbarstadt'].map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })));
  });

  for (const chart of ['ratssaal-crds', 'ratssaal']) {
    test(`helm lint has nothing against ${chart}`, async () => {
      const said = await cluster.helm('lint', '--strict', join(charts, chart));
      assert.match(said, /1 chart\(s\) linted, 0 chart\(s\) failed/);
    });
  }

  for (const [name, values] of Object.entries(RELEASES)) {
    test(`the release "${name}" is what it was, and the API server takes it`, async () => {
      const rendered = await cluster.helm('template', 'ratssaal', join(charts, 'ratssaal'), '--namespace', SYSTEM, ...values);
      const path = join(charts, 'snapshots', `${name}.yaml`);
      if (process.env.UPDATE_SNAPSHOTS || !existsSync(path)) {
        mkdirSync(join(charts, 'snapshots'), { recursive: true });
        writeFileSync(path, rendered);
        assert.ok(process.env.UPDATE_SNAPSHOTS, `${path} was not there; it is now: look at it and commit it`);
      }
      assert.equal(rendered, readFileSync(path, 'utf8'), 'the release changed; UPDATE_SNAPSHOTS=1 takes the change over');
      const input = join(cluster.run, `${name}.yaml`);
      writeFileSync(input, rendered);
      const said = await cluster.kubectl('apply', '--server-side', '--dry-run=server', '--filename', input);
      assert.match(said, /deployment.apps\/ratssaal serverside-applied/);
    });
  }

  test('an operator for some namespaces has no right in others but to see nodes', async () => {
    const kinds = readFileSync(join(charts, 'snapshots/namespaced.yaml'), 'utf8').split(/^---$/m);
    const roles = (kind) => kinds.filter((object) => new RegExp(`^kind: ${kind}$`, 'm').test(object));
    const [everywhere, ...others] = roles('ClusterRole').map((object) => [...object.matchAll(/resources: \[(.*)\]\n +verbs: \[(.*)\]/g)].map(([, resources, verbs]) => `${resources}: ${verbs}`));
    assert.deepEqual([everywhere, others], [['nodes: list, watch'], []]);
    const where = roles('Role').filter((object) => /resources: \[secrets\]/.test(object)).map((object) => /namespace: (\S+)/.exec(object)[1]);
    assert.deepEqual(where, ['konferenz', 'nachbarstadt']);
  });

  test('the operator meets the Pod Security level "restricted"', async () => {
    await cluster.kubectl('label', '--overwrite', 'namespace', SYSTEM, 'pod-security.kubernetes.io/enforce=restricted');
    const rendered = readFileSync(join(charts, 'snapshots/everything.yaml'), 'utf8');
    const pods = rendered.split(/^---$/m).filter((object) => /^kind: Pod$/m.test(object));
    assert.equal(pods.length, 1, 'the doctor');
    const input = join(cluster.run, 'pod.yaml');
    writeFileSync(input, pods[0]);
    await cluster.kubectl('apply', '--server-side', '--dry-run=server', '--filename', input);
    // Deployments are only warned of; the server's warnings go to standard error, --warnings-as-errors makes them count.
    const deployment = rendered.split(/^---$/m).filter((object) => /^kind: Deployment$/m.test(object));
    writeFileSync(input, deployment[0]);
    await cluster.kubectl('label', '--overwrite', 'namespace', SYSTEM, 'pod-security.kubernetes.io/warn=restricted');
    await cluster.kubectl('apply', '--server-side', '--dry-run=server', '--warnings-as-errors', '--filename', input);
  });

  test('the notes of an install give commands for files and objects that are there', async () => {
    const notes = async (...values) => (await cluster.helm('install', 'ratssaal', join(charts, 'ratssaal'), '--namespace', SYSTEM, '--dry-run=server', ...values)).split('NOTES:\n')[1];
    const plain = await notes();
    for (const [, file] of plain.matchAll(/--filename (\S+)/g)) assert.ok(existsSync(join(repository, file)), file);
    const example = readFileSync(join(repository, /--filename (\S+)/.exec(plain)[1]), 'utf8');
    // The example is what the other commands name.
    const [, secret] = /secret tls (\S+)/.exec(plain);
    assert.match(example, new RegExp(`secretName: ${secret}$`, 'm'));
    assert.match(plain, /wait vconf\/konferenz .*condition=Ready/);
    assert.match(plain, new RegExp(`namespace ${SYSTEM} rollout status deployment/ratssaal$`, 'm'));
    const own = await notes('--set=videoConference.create=true', '--set=videoConference.spec.hostname=konferenz.landkreis.example');
    assert.match(own, new RegExp(`namespace ${SYSTEM} get vconf konferenz -o wide[^]*helm test ratssaal --namespace ${SYSTEM}`));
    for (const said of [plain, own]) assert.doesNotMatch(said, /noch nicht|not yet|cannot/);
    assert.match(await notes('--set=namespaces={konferenz}'), /looks after these only: konferenz/);
  });

  for (const [wrong, part] of [
    [['--set=replicas=-1'], /replicas/],
    [['--set=replica=2'], /replica/],
    [['--set=image.tag=a b'], /tag/],
    [['--set=image.pullPolicy=Sometimes'], /pullPolicy/],
    [['--set=videoConference.create=true'], /hostname/],
    [['--set=videoConference.name=Konferenz'], /name/],
    [['--set=doctor.url=konferenz.example'], /url/],
  ]) {
    test(`wrong values are refused: ${wrong.join(' ')}`, async () => {
      await assert.rejects(cluster.helm('template', 'ratssaal', join(charts, 'ratssaal'), ...wrong), (error) => part.test(error.message) && /schema/.test(error.message));
    });
  }

  for (const file of readdirSync(join(repository, 'examples')).filter((name) => name.endsWith('.yaml'))) {
    test(`examples/${file} is accepted`, async () => {
      const path = join(repository, 'examples', file);
      const namespace = /namespace: (\S+)/.exec(readFileSync(path, 'utf8'))[1];
      await cluster.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }]);
      const said = await cluster.kubectl('apply', '--server-side', '--force-conflicts', '--dry-run=server', '--filename', path);
      assert.match(said, /videoconference.ratssaal.io\/\S+ serverside-applied/);
    });
  }

  test('the resource has help for every field', async () => {
    const help = await cluster.kubectl('explain', 'vconf.spec', '--recursive=false');
    for (const field of ['hostname', 'sites', 'media', 'drain', 'redis']) assert.match(help, new RegExp(field));
    assert.doesNotMatch(help, /<no description>/);
  });
});
