// Dynacast: what nobody watches is not encoded, and comes back when somebody does. Read from the publisher's own getStats().
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('a publisher with three layers and one viewer', () => {
  let server, pages, browsers, sender, viewer;

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium')]);
    sender = await Participant.open(browsers[0], pages, { identity: 'sender', hue: 120, hertz: 440, v1: true });
    viewer = await Participant.open(browsers[1], pages, { identity: 'viewer', hue: 0, hertz: 880, v1: false });
    await sender.join(server, 'dynacast', { options: { dynacast: true } });
    await viewer.join(server, 'dynacast');
    await sender.publish();
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  afterEach((context) => {
    if (context.error) context.diagnostic([sender, viewer].map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`).join(' | '));
  });

  /** Waits until exactly these layers are encoded, by RID. */
  const encodes = (...rids) => until(`the sender encodes ${rids.join(', ') || 'nothing'}`, async () => {
    const layers = await sender.call('layers');
    const active = layers.filter(({ active }) => active).map(({ rid }) => rid).sort();
    if (layers.length === 3 && JSON.stringify(active) === JSON.stringify(rids.sort())) return true;
    throw new Error(JSON.stringify(layers));
  }, 30_000);

  test('all layers while the best is watched', async () => {
    await viewer.sees(sender, { width: 1280 });
    await encodes('q', 'h', 'f');
  });

  test('a small tile stops the layers above it', async () => {
    await viewer.call('quality', 'sender', 'camera', 'LOW');
    await encodes('q');
    await viewer.sees(sender, { width: 320 });
  });

  test('an enlarged tile brings them back', async () => {
    await viewer.call('quality', 'sender', 'camera', 'HIGH');
    await viewer.sees(sender, { width: 1280, ms: 10_000 });
    await encodes('q', 'h', 'f');
  });

  test('a layer resumes with a key frame within 300 ms', async (context) => {
    const times = [];
    for (let turn = 0; turn < 5; turn++) {
      await viewer.call('quality', 'sender', 'camera', 'LOW');
      await encodes('q');
      await sender.call('expectResume', 'f');
      await viewer.call('quality', 'sender', 'camera', 'HIGH');
      times.push(await sender.call('resumed'));
      await viewer.sees(sender, { width: 1280 });
    }
    context.diagnostic(`ms from the server's word to the key frame: ${times.join(', ')}`);
    // A machine that runs two browsers and a server is late now and then.
    const median = times.toSorted((a, b) => a - b)[2];
    assert.ok(median <= 300, `${times}`);
  });

  test('nothing is encoded for nobody, and is again for somebody', async () => {
    await viewer.call('subscribe', 'sender', 'camera', false);
    await encodes();
    await viewer.call('subscribe', 'sender', 'camera', true);
    await viewer.sees(sender, { width: 1280, ms: 15_000 });
    await encodes('q', 'h', 'f');
  });
});
