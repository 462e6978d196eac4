// A server is drained while people meet on it: pages go to the other one and keep their PeerConnections. Counted is how long
// each picture and each voice stood still for each page. `E2E_DRAIN_PEOPLE` more pages only speak and listen.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { startFront } from '../lib/front.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { orderBridge, ours, startBridge } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

/** What a picture or a voice may stand still, ms: under a second on a machine with nothing else to do. */
const BOUND = Number(process.env.E2E_DRAIN_MS ?? 3000);
const MORE = Number(process.env.E2E_DRAIN_PEOPLE ?? 0);
const PEOPLE = [
  { identity: 'anna', hue: 0, hertz: 440, v1: true },
  { identity: 'bela', hue: 120, hertz: 1000, v1: true },
  { identity: 'carl', hue: 240, hertz: 1600, v1: false },
  ...Array.from({ length: MORE }, (_, number) => ({ identity: `p${number}`, hue: 60, hertz: 500 + 20 * number, v1: true, listens: true })),
];

describe('a drain', { skip: !ours && 'this is about ours' }, () => {
  const step = steps();
  let redis, pages, browser, servers, front, people;

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    servers = [await startBridge(redis, 'eins')];
    people = await Promise.all(PEOPLE.map(async (who) => Object.assign(await Participant.open(browser, pages, who), who)));
    front = await startFront(servers);
    for (const one of people) await one.join(front, 'umzug');
    for (const one of people) await (one.listens ? one.call('publishMicrophone', one) : one.publish());
    servers.push(await startBridge(redis, 'zwei'));
  });

  after(async () => {
    await browser?.close();
    await pages?.stop();
    await front?.stop();
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic((people ?? []).map((one) => `${one.identity}: ${one.trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of servers ?? []) context.diagnostic(server.log().slice(-6000));
  });

  async function meet(ms = 40_000) {
    for (const one of people.slice(0, 3)) {
      for (const other of people.filter((another) => another !== one)) {
        if (!other.listens) await one.sees(other, { ms });
        await one.hears(other, { ms });
      }
    }
  }

  /** Moves everybody by `order`; answers with how long something stood still at most. */
  async function move(what, order, target) {
    const sids = await Promise.all(people.map((one) => one.call('sid')));
    await Promise.all(people.map((one) => one.call('watchGaps')));
    const [anna, bela] = people;
    let sent = 0;
    const talk = setInterval(() => { sent += 1; anna.call('send', `${what}-${sent}`, { reliable: true }).catch(() => {}); }, 100);
    try {
      await order();
      await until('everybody sits on the other one', async () => {
        const active = await target.metric('ratssaal_participants{state="active"}');
        assert.equal(active, people.length);
        return true;
      }, 40_000);
      await meet();
    } finally {
      clearInterval(talk);
    }
    const gaps = await Promise.all(people.map((one) => one.call('gaps')));
    await until('all of what was said has come', async () => {
      const texts = (await bela.call('events')).filter(({ event, text }) => event === 'data' && text.startsWith(`${what}-`)).map(({ text }) => Number(text.split('-').at(-1)));
      assert.deepEqual(texts, Array.from({ length: sent }, (_, index) => index + 1));
      return true;
    }, 10_000);
    let worst = 0;
    for (const [number, one] of people.entries()) {
      assert.equal(await one.call('count', 'disconnected'), 0);
      assert.equal(await one.call('sid'), sids[number], 'the stay goes on');
      assert.equal(await one.call('count', 'reconnecting'), 0, 'nothing was begun anew');
      if (number < 3) console.log(`# ${what}: ${one.identity} (${one.v1 ? 'v1' : 'v0'}) waited at most, ms: ${JSON.stringify(gaps[number])}`);
      worst = Math.max(worst, ...Object.values(gaps[number]));
    }
    console.log(`# ${what} with ${people.length}: at most ${worst} ms`);
    return worst;
  }

  step('everybody meets on the first server', () => meet());

  step('the first server is drained', async () => {
    const worst = await move('drain', () => orderBridge(redis, 'drain', 'eins'), servers[1]);
    assert.ok(worst < BOUND, `something stood still for ${worst} ms`);
    await orderBridge(redis, 'undrain', 'eins');
  });

  step('and everybody comes back when the second one is stopped', async () => {
    let stopped;
    const worst = await move('stop', async () => { stopped = servers[1].stop(); }, servers[0]);
    await stopped;
    assert.ok(worst < BOUND, `something stood still for ${worst} ms`);
  });

  step('also when Redis is lost meanwhile and begins empty, and the server ends the moment it is empty', async () => {
    servers[1] = await startBridge(redis, 'zwei');
    let stopped;
    const worst = await move('away', async () => {
      await orderBridge(redis, 'drain', 'eins');
      await redis.kill();
      await redis.begin();
      // As the operator does until it is so: the order was lost as well.
      await until('Redis is used again', async () => { await orderBridge(redis, 'drain', 'eins'); return true; }, 20_000);
      await until('nobody sits there', async () => {
        assert.equal(await servers[0].metric('ratssaal_participants{state="active"}'), 0);
        return true;
      }, 40_000);
      stopped = servers[0].stop();
    }, servers[1]);
    await stopped;
    assert.ok(worst < BOUND, `something stood still for ${worst} ms`);
  });
});
