// A real Prometheus (Debian's) beside the browsers, which scrapes the Pods and answers the dashboards' queries.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../browser/lib/wait.mjs';
import { output, repository } from './cluster.mjs';

const LISTEN = '127.0.0.1:19090';
/** What Grafana puts in for its variables: everything, and a window that holds the whole test. */
const VARIABLES = [[/\$__rate_interval/g, '5m'], [/\$namespace/g, '.+']];

/** JSON is YAML. Bridges answer with the installation's certificate, which is not for their addresses. */
const config = (targets) => ({
  global: { scrape_interval: '1s' },
  rule_files: [join(repository, 'charts/ratssaal/rules/ratssaal.yaml')],
  scrape_configs: [{ job_name: 'ratssaal', honor_labels: true, tls_config: { insecure_skip_verify: true }, file_sd_configs: [{ files: [targets], refresh_interval: '1s' }] }],
});

/** What to scrape, as a PodMonitor says it: our Pods' port `http`, in HTTPS at bridges that do that themselves. */
function targets({ items }) {
  return items.flatMap(({ metadata: { name, namespace, labels }, spec, status }) => spec.containers.flatMap(({ ports = [], readinessProbe }) => ports
    .filter((port) => port.name === 'http' && status.podIP)
    .map(({ containerPort }) => ({
      targets: [`${status.podIP}:${containerPort}`],
      labels: { namespace, pod: name, component: labels['app.kubernetes.io/component'], __scheme__: (readinessProbe?.httpGet?.scheme ?? 'HTTP').toLowerCase() },
    }))));
}

export class Prometheus {
  static async start(cluster) {
    const folder = join(cluster.run, 'prometheus');
    mkdirSync(folder, { recursive: true });
    const prometheus = new Prometheus();
    Object.assign(prometheus, { cluster, file: join(folder, 'targets.json') });
    writeFileSync(join(folder, 'prometheus.yml'), JSON.stringify(config(prometheus.file)));
    await prometheus.discover();
    prometheus.child = spawn('prometheus', [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=${LISTEN}`, '--log.level=warn'], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    prometheus.child.stderr.on('data', (chunk) => { said = (said + chunk).slice(-5000); });
    process.once('exit', () => prometheus.child.kill('SIGKILL'));
    await until('Prometheus is ready', async () => {
      if (prometheus.child.exitCode !== null) throw new Error(said);
      return (await fetch(`http://${LISTEN}/-/ready`, { signal: AbortSignal.timeout(1000) })).ok;
    });
    // What happens only once is seen by those that were looked at before it: those that are there, and new Pods soon.
    await until('every Pod has been looked at twice', async () => {
      const looks = await prometheus.query('count_over_time(up[1m])');
      return looks.length >= prometheus.found && looks.every(({ value }) => Number(value[1]) >= 2);
    });
    prometheus.discovers = setInterval(() => prometheus.discover().catch(() => {}), 1000);
    return prometheus;
  }

  /** Finds the Pods as they are now. (Debian's Prometheus is built without the discovery of Kubernetes.) */
  async discover() {
    const found = targets(await this.cluster.get('pods', '--all-namespaces', '--selector=app.kubernetes.io/name=ratssaal'));
    this.found = found.length;
    writeFileSync(this.file, JSON.stringify(found));
  }

  /** The result of an instant query: samples whose value is a number. */
  async query(expr) {
    const filled = VARIABLES.reduce((text, [name, value]) => text.replace(name, value), expr);
    const response = await fetch(`http://${LISTEN}/api/v1/query?query=${encodeURIComponent(filled)}`, { signal: AbortSignal.timeout(10_000) });
    const answer = await response.json();
    if (answer.status !== 'success') throw new Error(`${filled}: ${answer.error}`);
    return answer.data.result.filter(({ value }) => Number.isFinite(Number(value[1])));
  }

  /** These dashboards' queries that have no data, each with its panel; those that ask for `absent` need not have any. */
  async empty(dashboards, absent) {
    await this.discover();
    const queries = (await output(join(repository, 'scripts/dashboards'), ['--queries'])).trim().split('\n').map((line) => JSON.parse(line)).filter(({ dashboard, expr }) => dashboards.includes(dashboard) && !absent?.test(expr));
    const empty = [];
    for (const { dashboard, panel, expr } of queries) if ((await this.query(expr)).length === 0) empty.push(`${dashboard}: ${panel}: ${expr}`);
    return { queries: queries.length, empty };
  }

  async stop() {
    clearInterval(this.discovers);
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGTERM');
    await ended;
  }
}
