// A camera in VP9 with VP8 for those who cannot decode that: each gets what it can decode, and what nobody watches is not encoded.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { ours, startBridge, startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

const ROOM = 'backup';
/** As many pictures are watched to see that a codec is encoded, or is not. */
const PICTURES = 30;
const CAMERA = { width: 640, height: 360, publish: { videoCodec: 'vp9', backupCodec: { codec: 'vp8' } } };

/** Somebody whose browser accepts neither VP9 nor AV1. */
const openOlder = (browser, pages, v1) =>
  Participant.open(browser, pages, { identity: 'older', hue: 0, hertz: 660, v1, refuses: ['VP9', 'AV1'] });

/** Waits until a participant decodes the sender's camera in this codec, pictures that keep coming. */
async function decodes(viewer, sender, codec) {
  await viewer.sees(sender);
  assert.equal((await viewer.call('receives', 'sender')).codec, `video/${codec}`);
}

/** Waits until one codec is encoded on and on and the `other` is not. */
async function encodesOnly(sender, codec, other) {
  let from = {};
  await until(`the sender encodes ${codec} and not ${other}`, async () => {
    const now = await sender.call('encoded');
    if ((from[other] ?? 0) !== (now[other] ?? 0) || from[codec] === undefined) from = now;
    if (now[codec] - from[codec] >= PICTURES) return true;
    throw new Error(JSON.stringify(now));
  }, 40_000);
}

/** Waits until both are. */
async function encodesBoth(sender) {
  const from = await sender.call('encoded');
  await until('the sender encodes both', async () => {
    const now = await sender.call('encoded');
    if (['vp9', 'vp8'].every((codec) => now[codec] - (from[codec] ?? 0) >= PICTURES)) return true;
    throw new Error(JSON.stringify(now));
  }, 40_000);
}

function tell(context, people) {
  const trouble = people.filter(Boolean).map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`);
  if (context.error) context.diagnostic(trouble.join(' | '));
}

describe('a publisher in VP9 with VP8 as backup', () => {
  let server, pages, browsers, sender, modern, older;

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium'), launch('chromium')]);
    sender = await Participant.open(browsers[0], pages, { identity: 'sender', hue: 120, hertz: 440, v1: true });
    modern = await Participant.open(browsers[1], pages, { identity: 'modern', hue: 0, hertz: 880, v1: true });
    await sender.join(server, ROOM, { options: { dynacast: true } });
    await sender.publish(CAMERA);
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  afterEach((context) => tell(context, [sender, modern, older]));

  async function joinOlder(v1) {
    older = await openOlder(browsers[2], pages, v1);
    await older.join(server, ROOM);
  }

  test('VP8 is not encoded as long as everybody can decode VP9', async () => {
    await modern.join(server, ROOM);
    await decodes(modern, sender, 'VP9');
    await encodesOnly(sender, 'vp9', 'vp8');
    assert.deepEqual(Object.keys(await sender.call('encoded')), ['vp9'], 'it was not even published');
  });

  test('who cannot decode VP9 gets VP8, and nobody else', async () => {
    await joinOlder(true);
    await decodes(older, sender, 'VP8');
    await decodes(modern, sender, 'VP9');
    await encodesBoth(sender);
    const [{ tracks }] = (await older.call('others')).filter(({ identity }) => identity === 'sender');
    assert.deepEqual(tracks.map(({ source }) => source).sort(), ['camera', 'microphone'], 'one camera, not two');
  });

  test('when they have left, VP8 is not encoded any more', async () => {
    await older.call('leave');
    await older.page.close();
    await encodesOnly(sender, 'vp9', 'vp8');
    await decodes(modern, sender, 'VP9');
  });

  test('when they come back, on two PeerConnections, it is again', async () => {
    await joinOlder(false);
    await decodes(older, sender, 'VP8');
    await encodesBoth(sender);
  });

  test('VP8 resumes with a key frame within 300 ms', async (context) => {
    const times = [];
    for (let turn = 0; turn < 3; turn++) {
      await older.call('subscribe', 'sender', 'camera', false);
      await encodesOnly(sender, 'vp9', 'vp8');
      await sender.call('expectResume', 'q', 'vp8');
      await older.call('subscribe', 'sender', 'camera', true);
      times.push(await sender.call('resumed'));
      await decodes(older, sender, 'VP8');
    }
    context.diagnostic(`ms from the server's word to the key frame: ${times.join(', ')}`);
    // A machine that runs three browsers and a server is late now and then.
    assert.ok(times.toSorted((a, b) => a - b)[1] <= 300, `${times}`);
  });

  test('VP9 is not encoded when only they are left', async () => {
    await modern.call('leave');
    await encodesOnly(sender, 'vp8', 'vp9');
    await decodes(older, sender, 'VP8');
  });

  test('muting concerns both codecs', async () => {
    await modern.join(server, ROOM);
    await decodes(modern, sender, 'VP9');
    await sender.call('mute', 'camera', true);
    for (const viewer of [modern, older]) await viewer.awaits('muted', ({ from, source }) => from === 'sender' && source === 'camera');
    await sender.call('mute', 'camera', false);
    await decodes(modern, sender, 'VP9');
    await decodes(older, sender, 'VP8');
  });

  test('unpublishing ends both', async () => {
    await sender.call('unpublish', 'camera');
    for (const viewer of [modern, older]) {
      await viewer.awaitsOthers('the camera is gone', (others) => others.some(({ identity, tracks }) => identity === 'sender' && tracks.length === 1));
    }
  });
});

describe('the same on two servers', { skip: !ours && 'this is about ours' }, () => {
  let redis, servers, pages, browsers, sender, modern, older;

  before(async () => {
    [redis, pages] = await Promise.all([startRedis(), servePages()]);
    // Who comes to a site sits there.
    const site = (name) => ({ RATSSAAL_SITE__NAME: name, RATSSAAL_MEDIA__WORKERS: '1' });
    servers = await Promise.all(['eins', 'zwei'].map((name) => startBridge(redis, name, site(name))));
    browsers = await Promise.all([launch('chromium'), launch('chromium'), launch('chromium')]);
    sender = await Participant.open(browsers[0], pages, { identity: 'sender', hue: 120, hertz: 440, v1: true });
    modern = await Participant.open(browsers[1], pages, { identity: 'modern', hue: 0, hertz: 880, v1: true });
    older = await openOlder(browsers[2], pages, true);
    await sender.join(servers[0], ROOM, { options: { dynacast: true } });
    await sender.publish(CAMERA);
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await pages?.stop();
    await redis?.stop();
  });

  afterEach((context) => tell(context, [sender, modern, older]));

  test('VP8 is asked for from the other server, and is all that comes to it', async () => {
    await older.join(servers[1], ROOM);
    await decodes(older, sender, 'VP8');
    await encodesOnly(sender, 'vp8', 'vp9');
  });

  test('beside it VP9 for who can decode that', async () => {
    await modern.join(servers[1], ROOM);
    await decodes(modern, sender, 'VP9');
    await decodes(older, sender, 'VP8');
    await encodesBoth(sender);
  });

  test('each stops when nobody there watches it', async () => {
    await older.call('leave');
    await encodesOnly(sender, 'vp9', 'vp8');
    await older.join(servers[1], ROOM);
    await decodes(older, sender, 'VP8');
    await modern.call('leave');
    await encodesOnly(sender, 'vp8', 'vp9');
  });
});
