// The cluster under test, started by scripts/kubernetes: its kubectl and helm, and waiting for what it says.
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../../browser/lib/wait.mjs';

export const repository = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const command = join(repository, 'scripts/kubernetes');

/** Runs a program; its output as text. Fails with what it said. */
export function output(program, args, { input, env = {}, timeout = 180_000 } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env }, timeout });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => { out += chunk; });
    child.stderr.on('data', (chunk) => { err += chunk; });
    child.once('error', reject);
    child.once('exit', (code, signal) => (code === 0 ? resolve(out) : reject(new Error(`${program} ${args.join(' ')}: ${code ?? signal}\n${err}${out}`))));
    // Who ends before reading everything is judged by its status.
    child.stdin.on('error', () => {});
    child.stdin.end(input ?? '');
  });
}

/** The cluster whose state is in the folder `run`. */
export class Cluster {
  constructor(run) {
    this.run = run;
    const noted = Object.fromEntries(readFileSync(join(run, 'cluster'), 'utf8').trim().split(' ').map((pair) => pair.split('=')));
    this.tag = noted.tag;
  }

  kubectl(...args) {
    return output(join(this.run, 'kubectl'), args);
  }

  helm(...args) {
    return output(join(this.run, 'helm'), args, { env: { HELM_CACHE_HOME: join(this.run, 'helm-cache'), HELM_CONFIG_HOME: join(this.run, 'helm-config'), HELM_DATA_HOME: join(this.run, 'helm-data') } });
  }

  /** `scripts/kubernetes`, for nodes and images. */
  machine(action, ...args) {
    return output(command, [action, this.run, ...args.map(String)]);
  }

  async get(...args) {
    return JSON.parse(await this.kubectl('get', ...args, '--output=json'));
  }

  /** Objects or text of YAML, applied as an administrator does. */
  apply(objects) {
    const input = typeof objects === 'string' ? objects : JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
    return output(join(this.run, 'kubectl'), ['apply', '--server-side', '--filename=-'], { input });
  }

  /** Waits until `matches` accepts what `get` says; the object. */
  awaits(what, args, matches, ms = 60_000) {
    return until(what, async () => {
      const object = await this.get(...args);
      if (matches(object)) return object;
      throw new Error(JSON.stringify(object.status ?? object.items?.map(({ metadata, status }) => [metadata.name, status?.phase ?? status])).slice(0, 1500));
    }, ms);
  }

  /** What an on-call person would look at after a failure. */
  report(namespace) {
    const ask = (...args) => spawnSync(join(this.run, 'kubectl'), args, { encoding: 'utf8', timeout: 20_000 }).stdout;
    // Pod by pod: one on a node that is away must not hide the others.
    const logs = (space, selector) => ask('--namespace', space, 'get', 'pods', '--selector', `app.kubernetes.io/component=${selector}`, '--output=name')
      .trim().split('\n').filter(Boolean).map((pod) => ask('--namespace', space, 'logs', pod, '--prefix', '--tail=40')).join('\n');
    return [
      ask('get', 'nodes,pods,vconf', '--all-namespaces', '--output=wide'),
      ask('get', 'events', '--all-namespaces', '--sort-by=.lastTimestamp').split('\n').slice(-25).join('\n'),
      ask('--namespace', namespace, 'get', 'vconf', '--output=yaml'),
      ...['bridge', 'allocator', 'redis'].map((part) => logs(namespace, part)),
      logs('ratssaal-system', 'operator'),
    ].join('\n');
  }
}
