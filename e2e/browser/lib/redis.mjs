// A Redis of Debian's `redis-server` on a Unix socket in a folder of its own, without persistence.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './wait.mjs';

/** A running one: `{ url, pause(), resume(), stop() }`. */
export async function startRedis() {
  const folder = mkdtempSync(join(tmpdir(), 'ratssaal-redis-'));
  const socket = join(folder, 'redis.sock');
  const child = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder], { stdio: 'ignore' });
  const exit = new Promise((resolve) => { child.once('exit', resolve); child.once('error', resolve); });
  process.once('exit', () => child.kill('SIGKILL'));
  await until('Redis answers (run scripts/need redis)', () => new Promise((resolve, reject) => {
    const connection = net.connect(socket, () => { connection.destroy(); resolve(true); });
    connection.once('error', reject);
  }), 10_000);
  return {
    url: `redis+unix://${socket}`,
    /** It answers nobody until {@link resume}. */
    pause: () => child.kill('SIGSTOP'),
    resume: () => child.kill('SIGCONT'),
    async stop() {
      child.kill('SIGKILL');
      await exit;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
