// The server under test: a running one (E2E_URL, E2E_KEY, E2E_SECRET), a LiveKit server (LIVEKIT_BIN, to prove that a test
// is right independently of our server), or our own binary (RATSSAAL_BIN, else target/{debug,release}/ratssaal).
import { execFile, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { existsSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { until } from './wait.mjs';

const repository = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const DEV = { key: 'devkey', secret: 'secret-secret-secret-secret-secret' };
/** How many UDP ports our server gets: one per worker. */
const MEDIA_PORTS = 4;

/** Whether the server under test is ours: it then serves the web client and `/api/v1`. */
export const ours = !process.env.LIVEKIT_BIN;

/** Our own binary. */
export function binary() {
  const named = process.env.RATSSAAL_BIN;
  const places = named ? [named] : ['debug', 'release'].map((profile) => join(repository, 'target', profile, 'ratssaal'));
  const found = places.find((path) => existsSync(path));
  if (!found && named) throw new Error(`There is no ${named}, which RATSSAAL_BIN names.`);
  if (!found) throw new Error('No ratssaal binary: run `cargo build -p ratssaal`, or set RATSSAAL_BIN to one.');
  return found;
}

async function freeTcpPort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The first of `count` neighbouring free UDP ports. */
async function freeUdpPorts(count) {
  for (let first = 20_000 + Math.floor(Math.random() * 10_000); ; first += count) {
    const sockets = [];
    try {
      for (let port = first; port < first + count; port++) {
        const socket = dgram.createSocket('udp4');
        sockets.push(socket);
        await new Promise((resolve, reject) => socket.once('error', reject).bind(port, resolve));
      }
      return first;
    } catch {
      // One is taken: try the next run.
    } finally {
      await Promise.all(sockets.map((socket) => new Promise((resolve) => { try { socket.close(resolve); } catch { resolve(); } })));
    }
  }
}

async function launch({ advertise, settings = {} } = {}) {
  const port = await freeTcpPort();
  const udp = await freeUdpPorts(MEDIA_PORTS);
  const http = `http://localhost:${port}`;
  if (!ours) {
    const config = {
      port, bind_addresses: ['127.0.0.1'], keys: { [DEV.key]: DEV.secret }, logging: { level: 'warn' },
      rtc: { udp_port: udp, tcp_port: 0, use_external_ip: false },
    };
    return { program: process.env.LIVEKIT_BIN, args: ['--config-body', JSON.stringify(config)], env: {}, ready: `${http}/`, http, ...DEV };
  }
  return {
    program: binary(),
    args: ['serve', '--dev'],
    env: {
      RATSSAAL_HTTP__BIND: `127.0.0.1:${port}`,
      RATSSAAL_MEDIA__PORTS: `${udp}-${udp + MEDIA_PORTS - 1}`,
      ...settings,
      ...(advertise && { RATSSAAL_MEDIA__ADVERTISE: advertise, RATSSAAL_MEDIA__BIND: '127.0.0.1' }),
    },
    media: Array.from({ length: MEDIA_PORTS }, (_, number) => udp + number),
    ready: `${http}/readyz`,
    http,
    ...DEV,
  };
}

/**
 * A server ready for joins: `{ http, ws, key, secret, pid, log(), metric(name), stop(), kill() }`. `settings` are further
 * ones in its environment (ours alone). `advertise` is the one address it tells clients
 * (ours alone, on loopback); `media` then lists its UDP ports.
 */
export async function startServer(how = {}) {
  if (process.env.E2E_URL) {
    const http = process.env.E2E_URL.replace(/^ws/, 'http').replace(/\/$/, '');
    const { E2E_KEY: key = DEV.key, E2E_SECRET: secret = DEV.secret } = process.env;
    return { http, ws: http.replace(/^http/, 'ws'), key, secret, log: () => '(the log of a server that was running before)', stop: async () => {} };
  }
  const { program, args, env, ready, ...server } = await launch(how);
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  const keep = (chunk) => { text = (text + chunk).slice(-200_000); };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let gone = null;
  const exit = new Promise((resolve) => {
    child.once('exit', (code, signal) => { gone = `it ended with ${code ?? signal}`; resolve(); });
    child.once('error', (error) => { gone = error.message; resolve(); });
  });
  process.once('exit', () => child.kill('SIGKILL'));
  try {
    await until('the server is ready', async () => gone ?? (await fetch(ready, { signal: AbortSignal.timeout(1000) })).ok, 30_000);
    if (gone) throw new Error(gone);
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`${program} did not start: ${error.message}\n${text}`);
  }
  return {
    ...server,
    ws: server.http.replace(/^http/, 'ws'),
    pid: child.pid,
    log: () => text,
    /** A metric's value, labels included in its name; 0 if there is none. */
    async metric(name) {
      const lines = (await (await fetch(`${server.http}/metrics`)).text()).split('\n');
      return Number(lines.find((line) => line.startsWith(`${name} `))?.split(' ')[1] ?? 0);
    },
    /** Ends it as a crash would. */
    async kill() {
      child.kill('SIGKILL');
      await exit;
    },
    /** Ends it as an operator would, and by force when that takes more than 10 s. */
    async stop() {
      child.kill('SIGTERM');
      const force = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await exit;
      clearTimeout(force);
    },
  };
}

/** One of several servers on this Redis, by its name in the cluster. */
export const startBridge = (redis, name, settings = {}) =>
  startServer({ settings: { RATSSAAL_CLUSTER__REDIS: redis.url, RATSSAAL_CLUSTER__BRIDGE: name, ...settings } });

/** `ratssaal bridge drain` or `undrain`, as an operator gives it. */
export const orderBridge = (redis, verb, name) => promisify(execFile)(binary(), ['bridge', verb, name, '--redis', redis.url]);
