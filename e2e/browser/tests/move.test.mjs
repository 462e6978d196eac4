// Two pages on servers of their own are moved to two others, one after the other: whoever stays gets the other's media from
// elsewhere each time. (They come through the servers that they know, which therefore go on running.)
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { orderBridge, ours, startServer } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

describe('a move from bridge to bridge', { skip: !ours && 'this is about ours' }, () => {
  const step = steps();
  let redis, pages, browser, anna, bela;
  const servers = {};

  const start = async (name) => {
    const settings = { RATSSAAL_CLUSTER__REDIS: redis.url, RATSSAAL_CLUSTER__BRIDGE: name, RATSSAAL_ROOM__SEATS: '1' };
    servers[name] = await startServer({ settings });
    return servers[name];
  };
  const sits = (server) => until('one participant sits here', async () => {
    assert.equal(await server.metric('ratssaal_participants{state="active"}'), 1);
    return true;
  }, 20_000);

  async function meet() {
    for (const [one, other] of [[anna, bela], [bela, anna]]) { await one.sees(other, { ms: 15_000 }); await one.hears(other, { ms: 15_000 }); }
  }

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    anna = await Participant.open(browser, pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browser, pages, { identity: 'bela', hue: 120, hertz: 1000, v1: true });
    for (const [one, name] of [[anna, 'eins'], [bela, 'zwei']]) {
      await one.join(await start(name), 'umzug');
      await one.publish();
    }
  });

  after(async () => {
    await browser?.close();
    await pages?.stop();
    await Promise.all(Object.values(servers).map((server) => server.stop()));
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic([anna, bela].map((one) => `${one?.identity}: ${one?.trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of Object.values(servers)) context.diagnostic(server.log().slice(-6000));
  });

  step('they meet, each on a server of its own', () => meet());

  for (const [from, to] of [['eins', 'drei'], ['zwei', 'vier'], ['vier', 'fuenf'], ['drei', 'sechs'], ['sechs', 'sieben'], ['fuenf', 'acht']]) {
    step(`${from} is drained: its page goes to ${to}`, async () => {
      const target = await start(to);
      await orderBridge(redis, 'drain', from);
      await sits(target);
      await meet();
    });
  }
});
