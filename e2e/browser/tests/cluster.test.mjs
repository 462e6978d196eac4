// Two servers on one Redis: pages connect to one and sit on the other; that one dies.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { ours, startBridge } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('several servers', { skip: !ours && 'this is about ours' }, () => {
  let redis, pages, browser, servers, entry, seat, anna, bela, carla;

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    servers = await Promise.all(['eins', 'zwei'].map((name) => startBridge(redis, name)));
    anna = await Participant.open(browser, pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browser, pages, { identity: 'bela', hue: 120, hertz: 1000, v1: false });
    carla = await Participant.open(browser, pages, { identity: 'carla', hue: 240, hertz: 1600, v1: true });
    await anna.join(servers[0], 'cluster');
    await anna.publish();
    seat = await until('anna sits somewhere', async () => {
      for (const server of servers) if ((await server.metric('ratssaal_participants{state="active"}')) === 1) return server;
      throw new Error('nowhere');
    });
    entry = servers.find((server) => server !== seat);
    for (const one of [bela, carla]) {
      await one.join(entry, 'cluster');
      await one.publish();
    }
  });

  after(async () => {
    await browser?.close();
    await pages?.stop();
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await redis?.stop();
  });

  afterEach((context) => {
    if (context.error) context.diagnostic([anna, bela, carla].map((one) => `${one?.identity}: ${one?.trouble.splice(0).join('; ')}`).join(' | '));
  });

  async function seeAndHear(...all) {
    for (const one of all) {
      for (const other of all.filter((another) => another !== one)) {
        await one.sees(other);
        await one.hears(other);
      }
    }
  }

  test('pages see and hear each other through whichever server they came', async () => {
    await seeAndHear(anna, bela, carla);
    assert.equal(await seat.metric('ratssaal_participants{state="active"}'), 3, 'all sit on one server');
    assert.ok((await entry.metric('ratssaal_signal_relayed')) >= 2, 'two came through the other one');
  });

  for (const [path, one] of [['v0', () => bela], ['v1', () => carla]]) {
    test(`a lost WebSocket is resumed through the other server on ${path}`, async () => {
      const sid = await one().call('sid');
      const resumed = await one().call('count', 'signalReconnecting');
      await one().call('lose', 'signal-reconnect');
      await until('it comes back', async () => (await one().call('count', 'signalReconnecting')) > resumed && (await one().call('state')) === 'connected');
      assert.equal(await one().call('sid'), sid);
      assert.equal(await one().call('count', 'reconnecting'), 0, 'nothing was begun anew');
      await seeAndHear(anna, bela, carla);
    });
  }

  test('when the server with the seats is killed, pages go on at the other one', async () => {
    const before = await Promise.all([bela, carla].map((one) => one.call('sid')));
    const began = Date.now();
    await seat.kill();
    for (const [number, one] of [bela, carla].entries()) {
      await until(`${one.identity} is back`, async () => (await one.call('sid')) !== before[number] && (await one.call('state')) === 'connected', 30_000);
    }
    await seeAndHear(bela, carla);
    console.log(`# seen and heard again ${Date.now() - began} ms after kill -9`);
  });
});
