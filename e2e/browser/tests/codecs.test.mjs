// Every codec that is forwarded, between real browsers: the right picture arrives in the codec that was asked for.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('video codecs', () => {
  let server, pages, browsers;

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium')]);
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  // H.264 in simulcast like VP8; VP9 and AV1 as one stream with layers inside (SVC), forwarded whole.
  for (const [codec, hue] of [['h264', 40], ['vp9', 160], ['av1', 280]]) {
    test(codec, async () => {
      const room = `codec-${codec}`;
      const sender = await Participant.open(browsers[0], pages, { identity: 'sender', hue, hertz: 440, v1: true });
      const receiver = await Participant.open(browsers[1], pages, { identity: 'receiver', hue: 0, hertz: 880, v1: codec !== 'vp9' });
      await sender.join(server, room);
      await sender.publish({ publish: { videoCodec: codec, backupCodec: false } });
      await receiver.join(server, room);
      await receiver.sees(sender);
      const [{ tracks }] = await receiver.call('others');
      const { codec: decoded } = await receiver.call('receives', 'sender');
      assert.equal(decoded.toLowerCase(), `video/${codec}`, 'what the decoder got');
      if (codec === 'h264') await until('three layers are sent', async () => {
        const layers = await sender.call('layers');
        if (layers.map(({ rid, width }) => `${rid} ${width}`).join() === 'f 1280,h 640,q 320' && layers.every(({ frames }) => frames > 0)) return true;
        throw new Error(JSON.stringify(layers));
      }, 40_000);
      assert.equal(tracks.find(({ source }) => source === 'camera').mimeType.toLowerCase(), `video/${codec}`);
      await sender.page.close();
      await receiver.page.close();
    });
  }
});
