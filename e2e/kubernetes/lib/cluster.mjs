// The cluster under test, started by scripts/kubernetes: its kubectl and helm, and waiting for what it says.
import { spawn, spawnSync } from 'node:child_process';
import { linkSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
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
    this.logs = join(run, 'log/pods');
    mkdirSync(this.logs, { recursive: true });
    setInterval(() => this.#keepLogs(), 500).unref();
  }

  /** Links what containers write, which the kubelet removes with their Pods: often it is those that have gone who know why. */
  #keepLogs() {
    const within = (folder) => { try { return readdirSync(folder); } catch { return []; } };
    for (const node of within(this.run).filter((name) => name.startsWith('node'))) {
      const pods = join(this.run, node, 'pods');
      for (const pod of within(pods)) {
        const [namespace, name] = pod.split('_');
        for (const container of within(join(pods, pod))) {
          for (const log of within(join(pods, pod, container))) {
            try {
              linkSync(join(pods, pod, container, log), join(this.logs, `${namespace}_${name}_${container}_${log}`));
            } catch (error) {
              if (error.code !== 'EEXIST' && error.code !== 'ENOENT') throw error;
            }
          }
        }
      }
    }
  }

  /** The last lines of each container of a namespace, also of Pods that have gone, and of those on nodes that are away. */
  #lastWords(namespace, lines = 60) {
    this.#keepLogs();
    return readdirSync(this.logs).filter((name) => name.startsWith(`${namespace}_`)).map((name) => {
      const text = readFileSync(join(this.logs, name), 'utf8').trimEnd().split('\n').slice(-lines);
      return [`== ${name}`, ...text].join('\n');
    });
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
    return [
      ask('get', 'nodes,pods,vconf', '--all-namespaces', '--output=wide'),
      ask('get', 'events', '--all-namespaces', '--sort-by=.lastTimestamp').split('\n').slice(-25).join('\n'),
      ask('--namespace', namespace, 'get', 'vconf', '--output=yaml'),
      ...this.#lastWords(namespace),
      ...this.#lastWords('ratssaal-system'),
    ].join('\n');
  }
}
