// Somebody is forwarded into another room, whose people sit on another server: they see and hear her there, the web client says
// where she comes from, and when her own server is drained she goes on in both rooms.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Guest } from '../lib/guest.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { orderBridge, ours, startServer } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { roomService } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

describe('a participant forwarded into another room', { skip: !ours && 'LiveKit does that in its cloud only' }, () => {
  const step = steps();
  let redis, pages, browser, anna, bela, carla;
  const servers = {};

  const start = async (name) => {
    // Room for her and her copy, or for the two who listen.
    const settings = { RATSSAAL_CLUSTER__REDIS: redis.url, RATSSAAL_CLUSTER__BRIDGE: name, RATSSAAL_ROOM__SEATS: '2' };
    servers[name] = await startServer({ settings });
    return servers[name];
  };
  const participants = (name, count) => until(`${count} sit on ${name}`, async () => {
    assert.equal(await servers[name].metric('ratssaal_participants{state="active"}'), count);
    return true;
  }, 30_000);
  const forwarded = async () => {
    await bela.sees(anna, { ms: 20_000 });
    await bela.hears(anna, { ms: 20_000 });
  };

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    anna = await Participant.open(browser, pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browser, pages, { identity: 'bela', hue: 120, hertz: 1000, v1: true });
    await anna.join(await start('eins'), 'rat');
    await anna.publish();
    await bela.join(await start('zwei'), 'saal');
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

  step('the other room sees and hears her', async () => {
    await roomService(servers.zwei, 'ForwardParticipant', { room: 'rat', identity: 'anna', destination_room: 'saal' }, { destinationRoom: 'saal' });
    await forwarded();
    await participants('eins', 2);
    await participants('zwei', 1);
  });

  step('the web client says where she comes from', async () => {
    carla = await Guest.open(browser, servers.zwei, { name: 'Carla Cramm', hue: 240, hertz: 1700 });
    await carla.goto('/r/saal');
    await carla.enter();
    await carla.click('tool-people');
    const label = await (await carla.find('person-forwarded')).evaluate((element) => element.textContent);
    assert.match(label, /„rat“|“rat”/);
    assert.deepEqual(carla.problems, []);
    await carla.page.close();
    await participants('zwei', 1);
  });

  step('her server is drained: she goes on in both rooms', async () => {
    await start('drei');
    await orderBridge(redis, 'drain', 'eins');
    await participants('drei', 2);
    await participants('eins', 0);
    await forwarded();
  });

  step('she leaves her room, and the other one', async () => {
    await anna.page.close();
    await bela.awaitsOthers('nobody', (others) => others.length === 0, 30_000);
  });
});
