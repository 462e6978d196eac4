// `ratssaal load` as a child process: many participants that are no browsers, who come back when their server dies.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary } from './server.mjs';

/** They join through `server`; `stop()` sends them home and resolves with what the program reports of them (its `--json`). */
export function startLoad(server, args) {
  const folder = mkdtempSync(join(tmpdir(), 'ratssaal-load-'));
  const file = join(folder, 'load.json');
  const child = spawn(binary(), ['load', '--dev', '--url', server.http, '--rejoin', '--json', file, ...args.map(String)], { stdio: ['ignore', 'ignore', 'pipe'] });
  let trouble = '';
  child.stderr.on('data', (chunk) => { trouble = (trouble + chunk).slice(-10_000); });
  const exit = new Promise((resolve) => { child.once('exit', (code, signal) => resolve(code ?? signal)); child.once('error', (error) => resolve(error.message)); });
  process.once('exit', () => child.kill('SIGKILL'));
  return {
    async stop() {
      child.kill('SIGINT');
      const code = await exit;
      try {
        return JSON.parse(readFileSync(file, 'utf8'));
      } catch (error) {
        throw new Error(`ratssaal load ended with ${code} and told nothing: ${error.message}\n${trouble}`);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}
