// Three pages whose seats are on three servers see and hear each other; each server has one seat, so that nobody shares one.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { startBridge } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

const PEOPLE = [
  { identity: 'anna', hue: 0, hertz: 440, v1: true },
  { identity: 'bert', hue: 120, hertz: 660, v1: false },
  { identity: 'cleo', hue: 240, hertz: 880, v1: true },
];

describe('one meeting on three servers', () => {
  const step = steps();
  let redis, servers, pages, browsers, people;

  before(async () => {
    [redis, pages] = await Promise.all([startRedis(), servePages()]);
    servers = await Promise.all(['eins', 'zwei', 'drei'].map((name) => startBridge(redis, name, { RATSSAAL_SITE__NAME: name, RATSSAAL_ROOM__SEATS: '1', RATSSAAL_MEDIA__WORKERS: '1' })));
    browsers = await Promise.all(PEOPLE.map(() => launch('chromium')));
    people = await Promise.all(PEOPLE.map((who, number) => Participant.open(browsers[number], pages, who)));
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await pages?.stop();
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic((people ?? []).map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of servers ?? []) context.diagnostic(server.log().slice(-3000));
  });

  /** A metric's value at a server, all labels together. */
  const metric = async (server, name) => {
    const text = await (await fetch(`${server.http}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };

  /** Everybody sees and hears everybody else. */
  const meet = (ms) => Promise.all(people.flatMap((who) => people.filter((other) => other !== who)
    .map(async (other) => { await who.sees(other, { ms }); await who.hears(other, { ms }); })));

  step('each sits on a server of its own', async () => {
    for (const [number, who] of people.entries()) {
      await who.join(servers[number], 'verteilt');
    }
    for (const server of servers) await until('one participant sits here', async () => (await metric(server, 'ratssaal_participants')) === 1, 5000);
  });

  step('they see and hear each other', async () => {
    for (const who of people) await who.publish();
    await meet(40_000);
    for (const server of servers) assert.ok((await metric(server, 'ratssaal_relay_sent_packets_total')) > 50, server.log());
  });
});
