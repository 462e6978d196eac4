// Milliseconds from `room.connect()` to the first decoded frame, in Chromium with a 720p simulcast publisher in the room, and
// the server's CPU time per join: what it used while joining, less what the publisher alone costs in that time.
// `npm run bench` measures our binary, LIVEKIT_BIN=… a LiveKit server, E2E_URL=… a running one. JOINS sets how often (default 15).
import { readFileSync } from 'node:fs';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { ours, startServer } from '../lib/server.mjs';
import { token } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

const joins = Number(process.env.JOINS ?? 15);
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
/** Milliseconds of CPU time that a process has used (its clock ticks a hundred times a second). */
const cpu = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return 10 * (Number(fields[11]) + Number(fields[12]));
};
const row = (name, values) => console.log(`${name.padEnd(28)} median ${median(values).toFixed(0)} ms  (${Math.min(...values).toFixed(0)}–${Math.max(...values).toFixed(0)})`);

const [server, pages] = await Promise.all([startServer(), servePages()]);
const browsers = await Promise.all([launch('chromium'), launch('chromium')]);
try {
  const publisher = await Participant.open(browsers[0], pages, { identity: 'publisher', hue: 200, hertz: 440, v1: true });
  await publisher.join(server, 'bench');
  await publisher.publish();
  await until('three layers are sent', async () => {
    const layers = await publisher.call('layers');
    return layers.length === 3 && layers.every(({ frames }) => frames > 15);
  }, 60_000);
  console.log(`${ours && !process.env.E2E_URL ? 'ratssaal' : process.env.E2E_URL ?? 'livekit-server'}, ${joins} joins each`);
  const sample = () => server.pid && { cpu: cpu(server.pid), at: performance.now() };
  let idle = 0;
  if (server.pid) {
    const before = sample();
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const after = sample();
    idle = (after.cpu - before.cpu) / (after.at - before.at);
  }
  for (const v1 of [true, false]) {
    const subscriber = await Participant.open(browsers[1], pages, { identity: 'subscriber', v1 });
    const measured = [];
    // The first join compiles the page's code: it is not counted.
    let start;
    for (let i = 0; i <= joins; i++) {
      if (i === 1) start = sample();
      const identity = `subscriber-${v1 ? 1 : 0}-${i}`;
      const one = await subscriber.call('timeFirstFrame', { url: server.ws, token: token(server, 'bench', identity), v1, identity: 'publisher' });
      if (i > 0) measured.push(one);
    }
    if (start) {
      const end = sample();
      const perJoin = (end.cpu - start.cpu - idle * (end.at - start.at)) / joins;
      console.log(`${v1 ? 'v1' : 'v0'} server CPU per join       ${perJoin.toFixed(1)} ms  (publisher alone: ${(100 * idle).toFixed(1)} % of a core)`);
    }
    row(`${v1 ? 'v1' : 'v0'} connect → connected`, measured.map(({ connected }) => connected));
    row(`${v1 ? 'v1' : 'v0'} connect → first frame`, measured.map(({ first }) => first));
    await subscriber.page.close();
  }
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
  await pages.stop();
  await server.stop();
}
