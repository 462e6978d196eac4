// Pages in a room in which many others send sound and picture, on either path: with one PeerConnection a page offers more than 256 KiB,
// here through another server than the one it sits on. They get everything, and come back when they have lost their WebSocket.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { startLoad } from '../lib/load.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { ours, startBridge } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

const OTHERS = 46;
/** The load client's name for its first room. */
const ROOM = 'viele-0';

describe('a room of many who publish', { skip: !ours && 'this is about ours' }, () => {
  const step = steps();
  let redis, servers, pages, browser, load, anna, bela, people;

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    // The room is on this one, for there is no other yet.
    servers = [await startBridge(redis, 'eins')];
    anna = await Participant.open(browser, pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browser, pages, { identity: 'bela', hue: 120, hertz: 1000, v1: false });
    people = [anna, bela];
  });

  after(async () => {
    await load?.stop().catch(() => {});
    await browser?.close();
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await pages?.stop();
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic((people ?? []).map((one) => `${one?.identity}: ${one?.trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of servers ?? []) context.diagnostic(server.log().slice(-4000));
  });

  /** Each gets every track of everybody, and sees and hears the next page. */
  async function meet() {
    const all = OTHERS + people.length - 1;
    for (const [number, one] of people.entries()) {
      const other = people[(number + 1) % people.length];
      await one.awaitsOthers('everything of everybody is there', (others) => {
        const tracks = others.flatMap(({ tracks }) => tracks);
        return others.length === all && tracks.length === 2 * all && tracks.every(({ isSubscribed }) => isSubscribed);
      }, 60_000);
      await one.sees(other, { ms: 40_000 });
      await one.hears(other, { ms: 40_000 });
    }
  }

  step('many come, who send sound and picture', async () => {
    const each = ['--tiles', 1, '--layers', 1, '--bitrate', 30, '--fps', 5, '--subscribers', 0];
    load = startLoad(servers[0], ['--room', 'viele', '--publishers', OTHERS, ...each, '--ramp', 20, '--duration', '300s']);
    await until('all of them are there', async () => {
      assert.equal(await servers[0].metric('ratssaal_participants{state="active"}'), OTHERS);
      return true;
    }, 60_000);
    servers.push(await startBridge(redis, 'zwei'));
  });

  step('two pages come to them, one through another server', async () => {
    for (const one of people) await one.join(servers[one === anna ? 1 : 0], ROOM);
    for (const one of people) await one.publish();
    await meet();
  });

  step('they lose their WebSockets, and go on', async () => {
    const sids = await Promise.all(people.map((one) => one.call('sid')));
    for (const one of people) {
      await one.call('lose', 'signal-reconnect');
      await one.awaits('signalReconnecting');
      await one.awaits('reconnected', () => true, 40_000);
    }
    await meet();
    assert.deepEqual(await Promise.all(people.map((one) => one.call('sid'))), sids);
    for (const one of people) assert.equal(await one.call('count', 'disconnected'), 0);
  });
});
