// Whoever clicks on "join" while Redis does not answer only waits longer: the web client tries again by itself.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Guest } from '../lib/guest.mjs';
import { startRedis } from '../lib/redis.mjs';
import { ours, startBridge } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('joining while a part of the cluster is away', { skip: !ours && 'only our server has a web client' }, () => {
  let redis, server, browser, anna;

  before(async () => {
    [redis, browser] = await Promise.all([startRedis(), launch('chromium')]);
    server = await startBridge(redis, 'eins');
    anna = await Guest.open(browser, server, { name: 'Anna Albers', hue: 0, hertz: 440 });
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await redis?.stop();
  });

  test('one click is enough', async () => {
    await anna.goto('/r/umbau');
    await anna.fill();
    let refused = 0;
    anna.page.on('response', (response) => { if (response.status() === 503) refused += 1; });
    redis.pause();
    try {
      await anna.click('prejoin-join');
      await until('the server has refused her', () => refused > 0);
    } finally {
      redis.resume();
    }
    await anna.find('call', 30_000);
    assert.equal(await anna.page.$('[data-testid=end-again]'), null);
    await until('she is in', async () => (await server.metric('ratssaal_participants{state="active"}')) === 1);
  });
});
