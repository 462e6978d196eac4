// A participant on the independent `webrtc` crate: e2e/src/bin/rust-participant.rs as a child process.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { binary } from './server.mjs';
import { token } from './token.mjs';
import { until } from './wait.mjs';

/** It is built with the tests, into the folder of the server's debug build. */
function program() {
  const folders = [process.env.CARGO_TARGET_DIR && join(process.env.CARGO_TARGET_DIR, 'debug'), dirname(binary())].filter(Boolean);
  const found = folders.map((folder) => join(folder, 'rust-participant')).find((path) => existsSync(path));
  if (!found) throw new Error('No rust-participant: run `cargo build -p ratssaal-e2e --bins`.');
  return found;
}

/** One that is in the room and publishes a camera and a microphone: `{ identity, events, awaits(event, matches), send(text), leave() }`. */
export async function joinRust(server, room, identity, { v1 }) {
  const args = [server.http, token(server, room, identity), ...(v1 ? ['--v1'] : [])];
  const child = spawn(program(), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const events = [];
  let trouble = '';
  let code = null;
  createInterface({ input: child.stdout }).on('line', (line) => events.push(JSON.parse(line)));
  child.stderr.on('data', (chunk) => { trouble = (trouble + chunk).slice(-10_000); });
  const exit = new Promise((resolve) => {
    child.once('exit', (status, signal) => { code = status ?? signal; resolve(code); });
    child.once('error', (error) => { code = error.message; resolve(code); });
  });
  process.once('exit', () => child.kill('SIGKILL'));
  const participant = {
    identity,
    events,
    awaits: (event, matches = () => true, ms = 30_000) => until(`${identity} prints ${event}`, () => {
      const found = events.find((entry) => entry.event === event && matches(entry));
      if (found) return found;
      throw new Error(`${JSON.stringify(events.slice(-5))} ${code === null ? '' : `it ended with ${code}: ${trouble}`}`);
    }, ms),
    send: (text) => child.stdin.write(`${text}\n`),
    /** Ends its input; resolves with its exit status once it has left. */
    leave() {
      child.stdin.end();
      return exit;
    },
    kill: () => child.kill('SIGKILL'),
  };
  await participant.awaits('joined');
  return participant;
}
