// What livekit-client does when it loses its WebSocket: it comes back to its session, and pictures and sound go on.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

describe('coming back', () => {
  let server, pages, browsers, anna, bela;
  /** Whoever is on it, and who watches. */
  const PATHS = [['v1', () => anna, () => bela], ['v0', () => bela, () => anna]];

  before(async () => {
    [server, pages] = await Promise.all([startServer(), servePages()]);
    browsers = await Promise.all([launch('chromium'), launch('chromium')]);
    anna = await Participant.open(browsers[0], pages, { identity: 'anna', hue: 0, hertz: 440, v1: true });
    bela = await Participant.open(browsers[1], pages, { identity: 'bela', hue: 120, hertz: 1000, v1: false });
    for (const participant of [anna, bela]) {
      await participant.join(server, 'reconnect');
      await participant.publish();
    }
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await pages?.stop();
    await server?.stop();
  });

  afterEach((context) => {
    if (context.error) context.diagnostic([anna, bela].map((one) => `${one?.identity}: ${one?.trouble.splice(0).join('; ')}`).join(' | '));
  });

  async function bothSeeAndHear() {
    for (const [one, other] of [[anna, bela], [bela, anna]]) {
      await one.sees(other);
      await one.hears(other);
    }
  }

  for (const [path, one, other] of PATHS) {
    test(`a lost WebSocket is resumed on ${path}: the same participant, the same connection`, async () => {
      await bothSeeAndHear();
      const before = await one().call('sid');
      const resumed = await one().call('count', 'signalReconnecting');
      await one().call('lose', 'signal-reconnect');
      await until('it comes back', async () => (await one().call('count', 'signalReconnecting')) > resumed && (await one().call('state')) === 'connected');
      assert.equal(await one().call('sid'), before);
      assert.equal(await one().call('count', 'reconnecting'), 0, 'nothing was begun anew');
      assert.equal(await other().call('count', 'trackUnsubscribed'), 0, 'nobody noticed');
      await bothSeeAndHear();
      await one().call('sendText', `back on ${path}`);
      await until('text arrives', async () => JSON.stringify(await other().call('events')).includes(`back on ${path}`));
    });
  }

  for (const [path, one, other] of PATHS) {
    test(`what is said reliably on ${path} arrives in order and once, although the WebSocket is lost again at the end of its resume`, async () => {
      const said = [];
      const say = () => {
        said.push(`${path} ${said.length}`);
        return one().call('send', said.at(-1), { reliable: true });
      };
      const heard = async () => (await other().call('events')).filter(({ event, text }) => event === 'data' && text.startsWith(path)).map(({ text }) => text);
      await say();
      await until('the first one arrives', async () => (await heard()).length === 1);
      const [lost, resumed] = [await one().call('count', 'signalReconnecting'), await one().call('count', 'reconnected')];
      await one().call('lose', 'signal-reconnect');
      await until('it notices', async () => (await one().call('count', 'signalReconnecting')) > lost);
      const talk = setInterval(() => say().catch(() => {}), 10);
      // For two seconds the client looks whether its new WebSocket stays.
      await until('it is back', async () => (await one().call('socket')) === 'connected');
      await one().call('lose', 'signal-reconnect');
      await until('it has come back', async () => (await one().call('count', 'reconnected')) > resumed && (await one().call('socket')) === 'connected');
      clearInterval(talk);
      await say();
      await until('all of it has arrived', async () => {
        assert.deepEqual(await heard(), said);
        return true;
      });
    });
  }

  test('a full reconnect brings everything back under a new session', async () => {
    const before = await anna.call('sid');
    await anna.call('lose', 'full-reconnect');
    await until('anna is back', async () => (await anna.call('sid')) !== before && (await anna.call('state')) === 'connected');
    await bothSeeAndHear();
  });
});
