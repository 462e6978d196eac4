// A participant on a bad line, in a real browser behind a real (user-space) bad network: what it gets fits the line, goes on
// without long freezes, recovers with the line, and nobody else notices.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Impairment } from '../lib/impair.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { ours, startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

const room = 'impaired';
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a participant on a bad line', { skip: !ours && 'the advertised address is set for our server only' }, () => {
  let server, pages, browsers, impairment, anna, bela, cem;

  before(async () => {
    [server, pages] = await Promise.all([startServer({ advertise: '127.0.0.2' }), servePages()]);
    impairment = await Impairment.open(server.media);
    browsers = await Promise.all([launch('chromium'), launch('chromium')]);
    anna = await Participant.open(browsers[0], pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browsers[1], pages, { identity: 'bela', hue: 120, hertz: 1000, v1: true });
    cem = await Participant.open(browsers[1], pages, { identity: 'cem', hue: 240, hertz: 1700, v1: false });
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await impairment?.stop();
    await server?.stop();
  });

  /** What changed in `seconds` of a received track, and the widest picture meanwhile. */
  async function during(participant, source, seconds) {
    const first = await participant.call('received', 'anna', source);
    await wait(seconds * 1000);
    const last = await participant.call('received', 'anna', source);
    const change = Object.fromEntries(Object.keys(last).map((key) => [key, last[key] - (first[key] ?? 0)]));
    return { ...change, frameWidth: last.frameWidth };
  }

  test('gets what fits 600 kbit/s with 100 ms and 2 % loss, while another gets everything', async (context) => {
    await anna.join(server, room);
    await anna.publish({ busy: true, fps: 10 });
    await cem.join(server, room);
    await cem.sees(anna, { width: 1280 });
    const line = impairment.set({ down: { kilobits: 600, delay: 50, loss: 0.02 }, up: { delay: 50 } });
    await bela.join(server, room);
    await bela.sees(anna);
    await bela.hears(anna);
    const settled = await until('the picture fits the line', async () => {
      const { frameWidth, framesDecoded, freezeCount } = await during(bela, 'camera', 3);
      if (frameWidth < 1280 && framesDecoded > 10 && freezeCount === 0) return frameWidth;
      throw new Error(JSON.stringify({ frameWidth, framesDecoded, freezeCount }));
    }, 30_000);
    assert.ok([320, 640].includes(settled), `${settled} wide`);
    const [video, audio, other] = await Promise.all([during(bela, 'camera', 15), during(bela, 'microphone', 15), during(cem, 'camera', 15)]);
    const told = JSON.stringify({ video, audio, other, line: impairment.counts(line) });
    context.diagnostic(told);
    // How many frames there are is the encoder's matter on a machine that runs three browsers' worth of it: what the line
    // costs is the difference to who has a good one.
    assert.ok(video.framesDecoded > 0.5 * other.framesDecoded, told);
    assert.ok(audio.concealedSamples - audio.silentConcealedSamples < 0.08 * audio.totalSamplesReceived, told);
    assert.equal(other.frameWidth, 1280, 'cem gets the top layer');
    assert.equal(other.packetsLost, 0, 'cem notices nothing');
  });

  test('a line that drops and comes back is followed', async () => {
    await bela.call('leave');
    const line = impairment.set({ down: { kilobits: 3000, delay: 25 }, up: { delay: 25 } });
    await bela.join(server, room);
    await bela.sees(anna, { width: 1280, ms: 30_000 });
    line.down.kilobits = 500;
    await until('the picture follows the line down', async () => {
      const { frameWidth, framesDecoded } = await during(bela, 'camera', 1);
      if (frameWidth < 1280 && framesDecoded > 5) return true;
      throw new Error(JSON.stringify({ frameWidth, framesDecoded }));
    }, 10_000);
    line.down.kilobits = 3000;
    await until('the picture follows the line up', async () => (await bela.call('received', 'anna', 'camera')).frameWidth === 1280, 30_000);
  });
});
