// The image on a real node, without the operator: it runs under the Pod Security level "restricted" but for its host ports, the
// doctor finds nothing wrong from outside and from a Pod, finds a blocked UDP port, two Chromium outside the cluster meet, and
// a real Prometheus that scrapes it has data for every panel of the dashboards of bridges and allocators.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { launch } from '../../browser/lib/browsers.mjs';
import { Guest } from '../../browser/lib/guest.mjs';
import { steps } from '../../browser/lib/steps.mjs';
import { until } from '../../browser/lib/wait.mjs';
import { HOST, certificate } from '../lib/certificate.mjs';
import { Cluster, output, repository } from '../lib/cluster.mjs';
import { ratssaal, versionOf } from '../lib/images.mjs';
import { digest, image } from '../lib/oci.mjs';
import { Prometheus } from '../lib/prometheus.mjs';

const NODE = '10.77.0.11';
/** The port of the node that leads to HTTPS. */
const NODE_PORT = 30443;
const URL_ = `https://${HOST}:${NODE_PORT}`;
const MEDIA = [10000, 10001];
const SPACE = 'image';

const pod = { runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: { type: 'RuntimeDefault' } };
const container = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } };
const common = { image: 'test.local/ratssaal:1', imagePullPolicy: 'Never', securityContext: container };
const secure = { automountServiceAccountToken: false, enableServiceLinks: false, securityContext: pod };
const meta = (name) => ({ name, namespace: SPACE, labels: { app: name, 'app.kubernetes.io/name': 'ratssaal', 'app.kubernetes.io/component': name } });

const bridge = {
  apiVersion: 'v1', kind: 'Pod', metadata: meta('bridge'),
  spec: {
    ...secure,
    volumes: [{ name: 'tls', secret: { secretName: 'tls', defaultMode: 0o440 } }],
    containers: [{
      ...common, name: 'bridge', args: ['serve'],
      env: [
        ...Object.entries({
          KEYS__e2e: 'only-for-this-test-only-for-this-test', HTTP__BIND: '[::]:7880', HTTP__CERTIFICATE: '/tls/tls.crt', HTTP__KEY: '/tls/tls.key',
          MEDIA__PORTS: MEDIA.join('-'), MEDIA__WORKERS: String(MEDIA.length), BRAND__NAME: 'Landkreis Beispiel',
        }).map(([name, value]) => ({ name: `RATSSAAL_${name}`, value })),
        { name: 'RATSSAAL_MEDIA__ADVERTISE', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
      ],
      ports: [{ name: 'http', containerPort: 7880 }, ...MEDIA.map((port) => ({ containerPort: port, hostPort: port, protocol: 'UDP' }))],
      readinessProbe: { httpGet: { path: '/readyz', port: 'http', scheme: 'HTTPS' }, periodSeconds: 1 },
      volumeMounts: [{ name: 'tls', mountPath: '/tls', readOnly: true }],
    }],
  },
};
const service = { apiVersion: 'v1', kind: 'Service', metadata: meta('bridge'), spec: { type: 'NodePort', selector: { app: 'bridge' }, ports: [{ port: 443, targetPort: 'http', nodePort: NODE_PORT }] } };
const doctorPod = {
  apiVersion: 'v1', kind: 'Pod', metadata: meta('doctor'),
  spec: {
    ...secure, restartPolicy: 'Never', volumes: [{ name: 'ca', configMap: { name: 'ca' } }],
    containers: [{ ...common, name: 'doctor', args: ['doctor', `--url=${URL_}`, `--address=${NODE}`, '--ca=/ca/ca.crt'], volumeMounts: [{ name: 'ca', mountPath: '/ca' }] }],
  },
};

describe('the image on a real node', () => {
  const step = steps();
  let cluster, files, browsers, prometheus;

  const doctor = () => output(process.env.RATSSAAL_BIN, ['doctor', `--url=${URL_}`, `--address=${NODE}`, `--ca=${files.authority}`]);

  before(async () => {
    cluster = new Cluster(process.env.E2E_CLUSTER);
    const folder = join(cluster.run, 'files');
    mkdirSync(folder, { recursive: true });
    files = await certificate(folder);
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await prometheus?.stop();
  });

  step('the same binary gives the same bytes, and the image says what it is', async () => {
    const first = join(cluster.run, 'images/ratssaal-1.tar');
    const folder = join(cluster.run, 'files');
    await ratssaal(folder, process.env.RATSSAAL_BIN, '1');
    assert.equal(digest(join(folder, 'ratssaal-1.tar')), digest(first), 'built twice');
    const { config, files: list } = await image(first);
    const label = (name) => config.Labels[`org.opencontainers.image.${name}`];
    assert.equal(label('version'), await versionOf(process.env.RATSSAAL_BIN));
    assert.equal(label('revision'), (await output('git', ['-C', repository, 'rev-parse', 'HEAD'])).trim());
    // The Dockerfile's layer is what `scripts/image --root` writes, and its configuration is the same.
    const dockerfile = readFileSync(join(repository, 'Dockerfile'), 'utf8').replace(/\\\n\s*/g, ' ');
    assert.match(dockerfile, /^RUN make build && scripts\/image --root \/image$/m);
    const last = dockerfile.split(/^FROM scratch$/m)[1];
    const says = (word) => new RegExp(`^${word} (.+)$`, 'm').exec(last)[1];
    const labels = Object.fromEntries([...says('LABEL').matchAll(/org\.opencontainers\.image\.(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    assert.deepEqual(Object.keys(labels).sort(), ['description', 'licenses', 'source', 'title']);
    for (const [name, value] of Object.entries(labels)) assert.equal(label(name), value, name);
    assert.deepEqual([says('ENV'), says('USER'), says('WORKDIR'), JSON.parse(says('ENTRYPOINT')), JSON.parse(says('CMD'))], [config.Env[0], config.User, config.WorkingDir, config.Entrypoint, config.Cmd]);
    const root = join(folder, 'root');
    await output('bash', ['-euc', 'mkdir -m 755 "$2" && umask 022 && "$1/scripts/image" --binary "$3" --root "$2" && source "$1/scripts/oci.sh" && tar_reproducibly "$2" >"$2.tar"', 'bash', repository, root, process.env.RATSSAAL_BIN]);
    const own = (await output('tar', ['--list', '--verbose', '--numeric-owner', `--file=${root}.tar`])).trim().split('\n');
    // A debug build's image has the web client beside it.
    const client = (path) => path.startsWith(`.${repository}/`) || (path !== './' && `.${repository}/`.startsWith(path));
    assert.deepEqual(own, list.filter((line) => !client(line.split(' ').at(-1))));
    assert.ok(own.some((line) => /^-rwxr-xr-x 0\/0 .* \.\/usr\/bin\/ratssaal$/.test(line)) && !own.some((line) => /\/(sh|bash|busybox)$/.test(line)));
  });

  step('it becomes ready as an ordinary user with a read-only root', async () => {
    await cluster.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: SPACE } }]);
    await cluster.kubectl('--namespace', SPACE, 'create', 'secret', 'tls', 'tls', `--cert=${files.certificate}`, `--key=${files.key}`);
    await cluster.kubectl('--namespace', SPACE, 'create', 'configmap', 'ca', `--from-file=ca.crt=${files.authority}`);
    await cluster.apply([bridge, service]);
    await cluster.kubectl('--namespace', SPACE, 'wait', '--for=condition=Ready', 'pod/bridge', '--timeout=90s');
    await assert.rejects(cluster.kubectl('--namespace', SPACE, 'exec', 'bridge', '--', '/bin/sh', '-c', 'true'), /no such file|not found/, 'there is no shell in it');
  });

  step('the doctor finds nothing wrong from outside', async () => {
    // A Service answers up to a second after its Pod is ready.
    const said = await until('all checks are good', doctor, 15_000);
    for (const check of ['name', 'certificate', 'http', 'token', 'websocket', 'udp', 'seats']) assert.match(said, new RegExp(`^${check} +ok`, 'm'));
  });

  step('the doctor finds nothing wrong from a Pod', async () => {
    await cluster.apply([doctorPod]);
    await cluster.kubectl('--namespace', SPACE, 'wait', '--for=jsonpath={.status.phase}=Succeeded', 'pod/doctor', '--timeout=60s');
    assert.match(await cluster.kubectl('--namespace', SPACE, 'logs', 'doctor'), /^udp +ok/m);
  });

  step('the doctor finds a firewall that stops UDP', async () => {
    const rule = ['OUTPUT', '-p', 'udp', '--dport', MEDIA.join(':'), '-j', 'DROP'];
    await output('iptables', ['-A', ...rule]);
    try {
      await assert.rejects(doctor(), /^udp +BAD +no UDP connection to 10\.77\.0\.11:1000\d.*let UDP through/m);
    } finally {
      await output('iptables', ['-D', ...rule]);
    }
  });

  step('two people outside the cluster meet over it', async () => {
    const args = [`--host-resolver-rules=MAP ${HOST} ${NODE}`, `--ignore-certificate-errors-spki-list=${files.pin}`];
    browsers = await Promise.all([launch('chromium', { args }), launch('chromium', { args })]);
    const anna = await Guest.open(browsers[0], { http: URL_ }, { name: 'Anna Albers', hue: 0, hertz: 440 });
    const bela = await Guest.open(browsers[1], { http: URL_ }, { name: 'Bela Bräuer', hue: 120, hertz: 1000 });
    await anna.goto('/');
    await anna.click('open-submit');
    await anna.enter();
    await bela.goto(new URL(anna.page.url()).pathname);
    await bela.enter();
    for (const [one, other] of [[anna, bela], [bela, anna]]) {
      await one.sees(other);
      await one.hears(other.hertz);
      assert.match(await until('media flows', () => one.call('remote')), /^10\.77\.0\.11:1000[01]$/, 'over a port of the node');
      assert.deepEqual(await one.allProblems(), []);
    }
  });

  step('every panel of the dashboards has data in a real Prometheus', async () => {
    prometheus = await Prometheus.start(cluster);
    await until('the bridge is scraped', async () => (await prometheus.query('up == 1')).length > 0);
    // Rates are of what happens while it is watched. (A bridge by itself has nobody to relay to: see the suite installation.)
    await doctor();
    await until('no panel is empty', async () => {
      const { queries, empty } = await prometheus.empty(['conference', 'allocator'], /ratssaal_relay_/);
      if (empty.length === 0) return queries;
      throw new Error(`${empty.length} of ${queries}: ${empty.join('\n')}`);
    }, 40_000);
  });
});
