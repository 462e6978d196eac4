// A camera in VP9 with VP8 for those who cannot decode that: each gets what it can decode, and what nobody watches is not encoded.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

/** As many pictures as are watched to see that a codec is encoded, or is not. */
const PICTURES = 30;

describe('a publisher in VP9 with VP8 as backup', () => {
  const room = 'backup';
  let server, pages, browsers, sender, modern, older;

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium'), launch('chromium')]);
    sender = await Participant.open(browsers[0], pages, { identity: 'sender', hue: 120, hertz: 440, v1: true });
    modern = await Participant.open(browsers[1], pages, { identity: 'modern', hue: 0, hertz: 880, v1: true });
    await sender.join(server, room, { options: { dynacast: true } });
    await sender.publish({ width: 640, height: 360, publish: { videoCodec: 'vp9', backupCodec: { codec: 'vp8' } } });
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  afterEach((context) => {
    const all = [sender, modern, older].filter(Boolean);
    if (context.error) context.diagnostic(all.map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`).join(' | '));
  });

  /** Somebody joins whose browser accepts neither VP9 nor AV1. */
  async function joinOlder(v1) {
    older = await Participant.open(browsers[2], pages, { identity: 'older', hue: 0, hertz: 660, v1, refuses: ['VP9', 'AV1'] });
    await older.join(server, room);
  }

  /** Waits until a participant decodes the camera in this codec, pictures that keep coming. */
  async function decodes(viewer, codec) {
    await viewer.sees(sender);
    assert.equal((await viewer.call('receives', 'sender')).codec, `video/${codec}`);
  }

  /** Waits until one codec is encoded on and on and the `other` is not. */
  async function encodesOnly(codec, other) {
    let from = {};
    await until(`the sender encodes ${codec} and not ${other}`, async () => {
      const now = await sender.call('encoded');
      if ((from[other] ?? 0) !== (now[other] ?? 0) || from[codec] === undefined) from = now;
      if (now[codec] - from[codec] >= PICTURES) return true;
      throw new Error(JSON.stringify(now));
    }, 40_000);
  }

  /** Waits until both are. */
  async function encodesBoth() {
    const from = await sender.call('encoded');
    await until('the sender encodes both', async () => {
      const now = await sender.call('encoded');
      if (['vp9', 'vp8'].every((codec) => now[codec] - (from[codec] ?? 0) >= PICTURES)) return true;
      throw new Error(JSON.stringify(now));
    }, 40_000);
  }

  test('VP8 is not encoded as long as everybody can decode VP9', async () => {
    await modern.join(server, room);
    await decodes(modern, 'VP9');
    await encodesOnly('vp9', 'vp8');
    assert.deepEqual(Object.keys(await sender.call('encoded')), ['vp9'], 'it was not even published');
  });

  test('who cannot decode VP9 gets VP8, and nobody else', async () => {
    await joinOlder(true);
    await decodes(older, 'VP8');
    await decodes(modern, 'VP9');
    await encodesBoth();
    const [{ tracks }] = (await older.call('others')).filter(({ identity }) => identity === 'sender');
    assert.deepEqual(tracks.map(({ source }) => source).sort(), ['camera', 'microphone'], 'one camera, not two');
  });

  test('when they have left, VP8 is not encoded any more', async () => {
    await older.call('leave');
    await older.page.close();
    await encodesOnly('vp9', 'vp8');
    await decodes(modern, 'VP9');
  });

  test('when they come back, on two PeerConnections, it is again', async () => {
    await joinOlder(false);
    await decodes(older, 'VP8');
    await encodesBoth();
  });

  test('VP9 is not encoded when only they are left', async () => {
    await modern.call('leave');
    await encodesOnly('vp8', 'vp9');
    await decodes(older, 'VP8');
  });

  test('muting concerns both codecs', async () => {
    await modern.join(server, room);
    await decodes(modern, 'VP9');
    await sender.call('mute', 'camera', true);
    for (const viewer of [modern, older]) await viewer.awaits('muted', ({ from, source }) => from === 'sender' && source === 'camera');
    await sender.call('mute', 'camera', false);
    await decodes(modern, 'VP9');
    await decodes(older, 'VP8');
  });

  test('unpublishing ends both', async () => {
    await sender.call('unpublish', 'camera');
    for (const viewer of [modern, older]) {
      await viewer.awaitsOthers('the camera is gone', (others) => others.some(({ identity, tracks }) => identity === 'sender' && tracks.length === 1));
    }
  });
});
