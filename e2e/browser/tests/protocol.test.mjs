// The LiveKit client protocol with livekit-client in real browsers: two Chromium and one Firefox, v0 and v1 mixed in one room.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { joinRust } from '../lib/rust.mjs';
import { startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('three browsers in one room', () => {
  let server, pages, browsers, anna, bela, cem, everyone;
  const room = 'protocol';
  const pairs = () => everyone.flatMap((one) => everyone.filter((other) => other !== one).map((other) => [one, other]));

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium'), launch('firefox', { hertz: 1700 })]);
    anna = await Participant.open(browsers[0], pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browsers[1], pages, { identity: 'bela', hue: 120, hertz: 1000, v1: false });
    cem = await Participant.open(browsers[2], pages, { identity: 'cem', hue: 240, hertz: 1700, v1: true });
    everyone = [anna, bela, cem];
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  afterEach((context) => {
    if (context.error) context.diagnostic(everyone?.map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`).join(' | '));
  });

  test('join over v1 and v0 and see each other', async () => {
    for (const participant of everyone) await participant.join(server, room);
    for (const participant of everyone) {
      await participant.awaitsOthers('sees two others', (others) => others.length === 2 && others.every(({ name }) => name));
    }
  });

  test('everyone sees and hears the right ones', async () => {
    await Promise.all(everyone.map((participant) => participant.publish()));
    for (const [one, other] of pairs()) {
      await one.sees(other);
      await one.hears(other);
    }
  });

  test('picture and sound of a person are played in sync', async () => {
    for (const [one, other] of [[anna, bela], [bela, anna], [anna, cem], [cem, anna]]) {
      const camera = await one.call('receives', other.identity, 'camera');
      const microphone = await one.call('receives', other.identity, 'microphone');
      assert.ok(camera.stream, `${one.identity} knows the stream of ${other.identity}`);
      assert.equal(camera.stream, microphone.stream, `${one.identity} hears ${other.identity} in sync`);
    }
  });

  test('a 720p camera is sent as three simulcast layers', async () => {
    for (const participant of [anna, bela]) {
      const layers = await until(`${participant.identity} sends three layers`, async () => {
        const sent = await participant.call('layers');
        if (sent.length === 3 && sent.every(({ frames }) => frames > 0)) return sent;
        throw new Error(JSON.stringify(sent));
      }, 40_000);
      assert.deepEqual(layers.map(({ width }) => width), [1280, 640, 320]);
    }
  });

  test('a subscriber gets the layer it asks for', async () => {
    for (const [one, other] of [[anna, bela], [bela, anna], [cem, anna]]) {
      for (const [quality, width] of [['HIGH', 1280], ['LOW', 320], ['MEDIUM', 640], ['HIGH', 1280]]) {
        await one.call('quality', other.identity, 'camera', quality);
        await one.sees(other, { width });
      }
    }
  });

  test('mute is seen by the others, and silent', async () => {
    await bela.call('mute', 'microphone', true);
    for (const participant of [anna, cem]) {
      await until(`${participant.identity} sees bela muted`, () => participant.call('isMuted', 'bela', 'microphone'));
      await until(`${participant.identity} hears nothing of bela`, async () => (await participant.call('hear', 'bela')) === null);
    }
    await bela.call('mute', 'microphone', false);
    for (const participant of [anna, cem]) {
      await until(`${participant.identity} sees bela unmuted`, async () => (await participant.call('isMuted', 'bela', 'microphone')) === false);
      await participant.hears(bela);
    }
  });

  test('a video mute stops the picture, and unmute brings it back', async () => {
    await anna.call('mute', 'camera', true);
    await until('bela sees the mute', () => bela.call('isMuted', 'anna', 'camera'));
    await anna.call('mute', 'camera', false);
    await until('bela sees the unmute', async () => (await bela.call('isMuted', 'anna', 'camera')) === false);
    for (const participant of [bela, cem]) await participant.sees(anna);
  });

  test('a screen share with its sound comes beside the camera, and goes', async () => {
    await bela.call('publishScreen', { hue: 60, hertz: 2500 });
    for (const participant of [anna, cem]) {
      await participant.sees(bela, { source: 'screen_share', hue: 60, width: 1920 });
      const [camera, screen] = [await participant.call('receives', 'bela', 'camera'), await participant.call('receives', 'bela', 'screen_share')];
      assert.notEqual(camera.stream, screen.stream);
      await participant.hears(bela, { source: 'screen_share_audio', hertz: 2500 });
      await participant.sees(bela);
    }
    await bela.call('unpublish', 'screen_share');
    await bela.call('unpublish', 'screen_share_audio');
    for (const participant of [anna, cem]) {
      await participant.awaitsOthers('sees the share gone', (others) => others.find(({ identity }) => identity === 'bela').tracks.length === 2);
      await participant.sees(bela);
      await participant.hears(bela);
    }
  });

  test('data reaches whom it is for, with the sender the server knows', async () => {
    await anna.call('send', 'to all, reliably', { reliable: true, topic: 'a' });
    await bela.call('send', 'to all, lossy', { reliable: false, topic: 'b' });
    await cem.call('send', 'only for anna', { reliable: true, topic: 'c', destinationIdentities: ['anna'] });
    for (const participant of [bela, cem]) await participant.awaits('data', ({ from, text, topic }) => from === 'anna' && text === 'to all, reliably' && topic === 'a');
    for (const participant of [anna, cem]) await participant.awaits('data', ({ from, text }) => from === 'bela' && text === 'to all, lossy');
    await anna.awaits('data', ({ from, text }) => from === 'cem' && text === 'only for anna');
    // What was sent after it on the same ordered channel has come: so nothing of it is still on its way to bela.
    await cem.call('send', 'to all', { reliable: true, topic: 'd' });
    await bela.awaits('data', ({ text }) => text === 'to all');
    const atBela = await bela.call('events');
    assert.ok(!atBela.some(({ text }) => text === 'only for anna'), 'bela got what was only for anna');
    assert.ok(!atBela.some(({ event, from }) => event === 'data' && from === 'bela'), 'bela got her own data back');
  });

  test('a long text stream arrives whole', async () => {
    const text = 'Satzung über die Straßenreinigung. '.repeat(2000);
    await anna.call('sendText', text);
    for (const participant of [bela, cem]) await participant.awaits('text', (entry) => entry.from === 'anna' && entry.text === text);
  });

  test('metadata and attributes need the grant and reach the others', async () => {
    await assert.rejects(anna.call('setMetadata', 'refused'));
    await bela.call('leave');
    await bela.join(server, room, { grants: { canUpdateOwnMetadata: true } });
    await bela.call('setMetadata', '{"role":"chair"}');
    await bela.call('setAttributes', { hand: 'up' });
    await anna.awaitsOthers('sees bela\'s metadata', (others) => others.some(({ identity, metadata, attributes }) => identity === 'bela' && metadata === '{"role":"chair"}' && attributes.hand === 'up'));
    await bela.publish();
    await anna.sees(bela);
  });

  test('unsubscribing stops the track, subscribing brings it back', async () => {
    for (const [one, other] of [[anna, bela], [cem, bela], [bela, anna]]) {
      await one.call('subscribe', other.identity, 'camera', false);
      await one.awaits('trackUnsubscribed', ({ from, source }) => from === other.identity && source === 'camera');
      await one.call('subscribe', other.identity, 'camera', true);
      await one.sees(other);
    }
  });

  test('a publisher chooses who may subscribe', async () => {
    await bela.call('allowSubscribers', false, [{ participantIdentity: 'cem', allowAll: true }]);
    await anna.awaits('trackUnsubscribed', ({ from, source }) => from === 'bela' && source === 'microphone');
    await cem.sees(bela);
    await bela.call('allowSubscribers', true);
    for (const participant of [anna, cem]) {
      await participant.sees(bela);
      await participant.hears(bela);
    }
  });

  test('a reload brings the same participant back', async () => {
    await cem.reload();
    await cem.join(server, room);
    await cem.publish();
    for (const [one, other] of pairs()) {
      await one.sees(other);
      await one.hears(other);
    }
    await anna.awaitsOthers('has two others, not three', (others) => others.length === 2);
  });

  for (const v1 of [true, false]) {
    test(`a participant on the webrtc crate (${v1 ? 'v1' : 'v0'}) is one of them: media and data both ways`, async () => {
      const rust = await joinRust(server, room, `rosa-${v1 ? 'v1' : 'v0'}`, { v1 });
      try {
        for (const participant of everyone) {
          for (const source of ['camera', 'microphone']) {
            await rust.awaits('media', (entry) => entry.from === participant.identity && entry.source === source.toUpperCase() && entry.packets > 50);
            // What it sends is no picture, so packets are counted where the browser takes them.
            await until(`${participant.identity} gets ${rust.identity}'s ${source}`, async () => {
              const received = await participant.call('received', rust.identity, source);
              if (received?.packetsReceived > 50) return true;
              throw new Error(JSON.stringify(received));
            }, 30_000);
          }
          await participant.call('send', `from ${participant.identity}`, { reliable: true });
          await rust.awaits('data', ({ from, text }) => from === participant.identity && text === `from ${participant.identity}`);
        }
        rust.send('Grüße aus Rust');
        for (const participant of everyone) await participant.awaits('data', ({ from, text }) => from === rust.identity && text === 'Grüße aus Rust');
        assert.equal(await rust.leave(), 0, JSON.stringify(rust.events.slice(-5)));
        for (const participant of everyone) {
          await participant.awaitsOthers('it is gone', (others) => others.every(({ identity }) => identity !== rust.identity), 3000);
        }
      } finally {
        rust.kill();
      }
    });
  }

  test('who leaves is gone at once', async () => {
    await bela.call('leave');
    for (const participant of [anna, cem]) {
      await participant.awaitsOthers('bela is gone', (others) => others.length === 1 && others[0].identity !== 'bela', 3000);
    }
  });

  test('a second join with the same identity replaces the first', async () => {
    const twin = await Participant.open(browsers[1], pages, { identity: 'anna', hue: 180, hertz: 700, v1: false });
    await twin.join(server, room);
    await twin.publish();
    const { reason } = await anna.awaits('disconnected');
    assert.equal(reason, 2, 'DUPLICATE_IDENTITY');
    await cem.sees(twin);
    await cem.hears(twin);
    await cem.awaitsOthers('one anna', (others) => others.length === 1);
    await twin.page.close();
  });

  test('nothing needed a reconnect', async () => {
    for (const participant of everyone) {
      assert.equal(await participant.call('count', 'reconnecting'), 0, participant.identity);
      assert.equal(await participant.call('count', 'signalReconnecting'), 0, participant.identity);
    }
  });
});
