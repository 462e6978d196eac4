// A Redis of Debian's `redis-server` on a Unix socket in a folder of its own, without persistence.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.mjs';

/** Its process, when it answers: `{ child, exit }`. */
async function run(folder, socket) {
  const child = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder], { stdio: 'ignore' });
  const exit = new Promise((resolve) => { child.once('exit', resolve); child.once('error', resolve); });
  process.once('exit', () => child.kill('SIGKILL'));
  await until('Redis answers (run scripts/need redis)', () => new Promise((resolve, reject) => {
    const connection = net.connect(socket, () => { connection.destroy(); resolve(true); });
    connection.once('error', reject);
  }), 10_000);
  return { child, exit };
}

/** A running one: `{ url, pause(), resume(), kill(), begin(), stop() }`. */
export async function startRedis() {
  const folder = mkdtempSync(join(tmpdir(), 'ratssaal-redis-'));
  const socket = join(folder, 'redis.sock');
  let redis = await run(folder, socket);
  const kill = async () => {
    redis.child.kill('SIGKILL');
    await redis.exit;
  };
  return {
    url: `redis+unix://${socket}`,
    /** It answers nobody until {@link resume}. */
    pause: () => redis.child.kill('SIGSTOP'),
    resume: () => redis.child.kill('SIGCONT'),
    /** It dies, and what it knew is lost. */
    kill,
    /** It is there again, and knows nothing. */
    async begin() {
      redis = await run(folder, socket);
    },
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
