// Every screen of the web client outside a meeting, in Chromium with its own (fake) devices: languages, opening a room, the
// choice of devices before joining, and all that can be in the way. Each is checked by lib/inspect.mjs, see there.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Guest } from '../lib/guest.mjs';
import { ours, startServer } from '../lib/server.mjs';
import { until } from '../lib/wait.mjs';

const text = Object.fromEntries(['de', 'en'].map((language) =>
  [language, JSON.parse(readFileSync(new URL(`../../../web/src/i18n/${language}.json`, import.meta.url), 'utf8'))]));
/** Leads to this machine, and is no secure context as `localhost` is. */
const PLAIN = 'ratssaal.test';
const CONSENT = ['camera', 'microphone'];

describe('the screens of the web client', { skip: !ours && 'only our server has a web client' }, () => {
  let server, browser, bare;
  const guests = [];
  const titles = new Map();

  before(async () => {
    server = await startServer();
    // Without Chromium's fake consent: it would grant what the tests deny.
    browser = await launch('chromium', {
      args: ['--use-fake-device-for-media-stream=device-count=3', `--host-resolver-rules=MAP ${PLAIN} 127.0.0.1`], without: ['--use-fake-ui'],
    });
  });

  afterEach(async (context) => {
    if (context.error) context.diagnostic(guests.map(({ page, problems }) => `${page.url()}: ${problems.join('; ')}`).join(' | '));
    await Promise.all(guests.splice(0).map(({ page }) => page.close()));
  });

  after(async () => {
    await Promise.all([browser, bare].map((one) => one?.close()));
    await server?.stop();
  });

  /** Somebody with a fresh profile, of whom the browser knows whether camera and microphone are allowed. */
  async function visitor({ consent = 'granted', at = server, ...how } = {}) {
    const context = await browser.createBrowserContext();
    const guest = await Guest.open(context, at, { name: 'Dr. Karin von der Heide', ...how });
    guest.allow = async (state) => { for (const name of CONSENT) await context.setPermission(at.http, { permission: { name }, state }); };
    if (!at.http.includes(PLAIN)) await guest.allow(consent);
    guests.push(guest);
    return guest;
  }

  const says = (guest, selector, wanted) => until(`${selector} says "${wanted}"`, async () => {
    const said = await guest.page.$eval(selector, (element) => element.textContent);
    if (said.includes(wanted)) return true;
    throw new Error(said);
  });
  const heading = (guest, wanted) => says(guest, 'h1', wanted);

  /** Every screen has a title of its own, which is what a window and a screen reader call it. */
  const titled = async (guest, screen) => {
    const title = await guest.page.title();
    assert.ok(!titles.has(title), `${screen} is called as ${titles.get(title)} is: ${title}`);
    titles.set(title, screen);
  };

  /** No violation, and nothing on the way that must not be. */
  async function passes(guest, found) {
    assert.deepEqual(found, []);
    assert.deepEqual(await guest.allProblems(), []);
  }

  test('the start page speaks German, English when asked to, and remembers it', async () => {
    const guest = await visitor();
    const found = [];
    const language = () => guest.page.evaluate(() => document.documentElement.lang);
    await guest.goto('/');
    await heading(guest, text.de.start.heading);
    assert.equal(await language(), 'de');
    await guest.click('language-en');
    await heading(guest, text.en.start.heading);
    await guest.page.reload();
    await heading(guest, text.en.start.heading);
    assert.equal(await language(), 'en');
    found.push(...await guest.inspect('start-en', { dark: true }));
    await guest.click('language-de');
    await heading(guest, text.de.start.heading);
    await guest.page.reload();
    await heading(guest, text.de.start.heading);
    await titled(guest, 'the start page');
    found.push(...await guest.inspect('start-de', { dark: true }));
    await passes(guest, found);
  });

  test('the start page says what is wrong with a name', async () => {
    const guest = await visitor();
    await guest.goto('/');
    await guest.click('join-submit');
    await says(guest, 'form', text.de.start.joinEmpty);
    await guest.click('open-named');
    await guest.type('open-name', 'Ä'.repeat(60)); // ae: 120 characters
    await guest.click('open-submit');
    await says(guest, 'form:has([data-testid=open-name])', text.de.start.joinInvalid);
    assert.equal(new URL(guest.page.url()).pathname, '/');
    await passes(guest, await guest.inspect('start-mistakes', { dark: true }));
  });

  test('a room is opened by name, entered by its link, and a fresh one cannot be guessed', async () => {
    const guest = await visitor();
    await guest.goto('/');
    await guest.click('open-named');
    await guest.type('open-name', 'Bauausschuss Süd');
    await guest.click('open-submit');
    await heading(guest, 'bauausschuss-sued');
    assert.equal(new URL(guest.page.url()).pathname, '/r/bauausschuss-sued');
    await says(guest, 'main', text.de.prejoin.moderator);

    const fresh = [];
    while (fresh.length < 2) {
      await guest.goto('/');
      await guest.click('open-submit');
      await guest.find('name-input');
      fresh.push(new URL(guest.page.url()).pathname);
    }
    // 5 bits a character: at least 60 bits, and another every time.
    for (const path of fresh) assert.match(path, /^\/r\/[a-z0-9-]{12,}$/);
    assert.notEqual(fresh[0], fresh[1]);

    const invited = await visitor();
    await invited.goto('/');
    await invited.type('join-input', `${server.http}${fresh[0]}`);
    await invited.click('join-submit');
    await heading(invited, fresh[0].slice('/r/'.length));
    assert.ok(!(await invited.page.$eval('main', (main) => main.textContent)).includes(text.de.prejoin.moderator), 'a guest leads nothing');
    for (const one of [guest, invited]) await passes(one, []);
  });

  test('before joining one sees oneself, sees the microphone move, and chooses devices', async () => {
    const guest = await visitor();
    const found = [];
    await guest.goto('/r/vorraum');
    await until('the preview runs', () => guest.page.$eval('[data-testid=preview]', (video) => video.videoWidth > 0 && video.currentTime > 0.2));

    // Chromium's fake microphone beeps: the bar goes up and comes down.
    const levels = () => guest.page.evaluate(async () => {
      const seen = [];
      for (let frame = 0; frame < 60; frame += 1) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        seen.push(Number(document.querySelector('[data-testid=level]').ariaValueNow));
      }
      return seen;
    });
    const moves = () => until('the level moves', async () => {
      const seen = await levels();
      return Math.max(...seen) > 20 && Math.min(...seen) < Math.max(...seen);
    });
    await moves();
    await titled(guest, 'the screen before a meeting');
    found.push(...await guest.inspect('prejoin', { dark: true }));
    await guest.click('prejoin-microphone');
    await until('the microphone is off', () => guest.page.$eval('[data-testid=prejoin-microphone]', (button) => button.ariaPressed === 'false'));
    assert.deepEqual(new Set(await levels()), new Set([0]), 'a muted microphone shows no level');
    await guest.click('prejoin-microphone');
    await moves();

    await guest.click('prejoin-camera');
    await guest.page.waitForSelector('[data-testid=preview]', { hidden: true });
    await guest.click('prejoin-camera');
    await guest.find('preview');

    const shown = () => guest.page.$eval('[data-testid=preview]', (video) => video.srcObject?.getVideoTracks()[0]?.label);
    assert.equal(await shown(), 'fake_device_0');
    await guest.choose('camera-select', 'fake_device_2');
    await until('the preview is from the chosen camera', async () => (await shown()) === 'fake_device_2');
    await guest.choose('microphone-select', 'Fake Audio Input 2');
    await moves();
    await guest.click('language-en');
    await heading(guest, text.en.prejoin.heading.split(' ')[0]);
    found.push(...await guest.inspect('prejoin-en'));

    await guest.click('prejoin-join');
    await says(guest, 'form', text.en.prejoin.nameEmpty);
    found.push(...await guest.inspect('prejoin-nameless'));
    await guest.enter();
    await guest.sends({ video: 'fake_device_2', audio: 'Fake Audio Input 2' });
    await passes(guest, found);
  });

  test('a device chosen once that is not there today is replaced', async () => {
    const gone = () => localStorage.setItem('ratssaal.preferences', JSON.stringify({ cameraId: 'gone', microphoneId: 'gone' }));
    const guest = await visitor({ init: gone });
    await guest.goto('/r/ausgesteckt');
    await until('another camera shows', () => guest.page.$eval('[data-testid=preview]', (video) => video.videoWidth > 0));
    await guest.click('prejoin-camera');
    await guest.page.waitForSelector('[data-testid=preview]', { hidden: true });
    await guest.enter({ camera: false });
    await guest.sends({ audio: 'Fake Default Audio Input' });
    await guest.click('tool-camera');
    await guest.sends({ video: 'fake_device_0', audio: 'Fake Default Audio Input' });
    await passes(guest, []);
  });

  test('whoever denied the devices is helped, and joins when they are allowed', async () => {
    const guest = await visitor({ consent: 'denied' });
    await guest.goto('/r/gesperrt');
    const found = [];
    for (const language of ['de', 'en']) {
      await guest.click(`language-${language}`);
      await says(guest, '[role=alert]', text[language].media.both.denied);
      for (const line of text[language].help.chromium) await says(guest, '[role=alert] ol', line);
      await says(guest, '[data-testid=prejoin-join]', text[language].prejoin.joinWithout);
      found.push(...await guest.inspect(`denied-${language}`, { dark: language === 'de' }));
    }
    await guest.allow('granted');
    await guest.click('media-retry');
    await guest.enter();
    await guest.awaitsTile(guest, 'is seen', (seen) => seen?.picture === 'live');
    await passes(guest, found);
  });

  test('with no devices at all one joins, and sees and hears the others', async () => {
    bare = await launch('chromium', { without: ['--use-fake-device'] });
    const listener = await Guest.open(bare, server, { name: 'Ohne Geräte' });
    const speaker = await visitor({ name: 'Mit Geräten', hue: 120, hertz: 700 });
    guests.push(listener);
    for (const guest of [listener, speaker]) await guest.goto('/r/ohne');
    await says(listener, '[role=alert]', text.de.media.both.missing);
    await says(listener, '[data-testid=prejoin-join]', text.de.prejoin.joinWithout);
    const found = await listener.inspect('no-devices', { dark: true });
    await speaker.enter();
    await listener.enter({ camera: false });
    await listener.sees(speaker);
    await listener.hears(speaker.hertz);
    await speaker.awaitsTile(listener, 'sees who has no devices', (seen) => seen?.picture === 'off' && seen.microphone.startsWith(text.de.tile.noMicrophone));
    await passes(listener, found);
  });

  test('a device that another program holds', async () => {
    const guest = await visitor({ init: () => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('busy', 'NotReadableError'); }; } });
    await guest.goto('/r/besetzt');
    for (const kind of CONSENT) await says(guest, '[role=alert]', text.de.media[kind].busy);
    await passes(guest, await guest.inspect('busy', { dark: true }));
  });

  test('without a secure connection one is told so', async () => {
    const guest = await visitor({ at: { ...server, http: server.http.replace('localhost', PLAIN) } });
    await guest.goto('/r/unsicher');
    await heading(guest, text.de.media.insecure);
    const found = [...await guest.inspect('insecure', { dark: true }), ...guest.problems];
    assert.deepEqual(found.filter((problem) => !problem.includes('Cross-Origin-Opener-Policy')), []); // the browser says that it is of no use here
  });

  test('a wrong address, and a link that is none', async () => {
    const guest = await visitor();
    const found = [];
    for (const path of ['/nirgendwo', '/r/%20', `/r/${'x'.repeat(70)}`]) {
      await guest.goto(path);
      await heading(guest, text.de.error.notFoundHeading);
    }
    await titled(guest, 'a page that is not there');
    found.push(...await guest.inspect('not-found', { dark: true }));
    guest.problems = guest.problems.filter((problem) => !problem.includes('404')); // the address answers so, and should
    await passes(guest, found);
  });

  test('where only the administration opens rooms', async () => {
    const closed = await startServer({ settings: { RATSSAAL_ROOM__AUTO_CREATE: 'false' } });
    try {
      const guest = await visitor({ at: closed });
      await guest.goto('/');
      await says(guest, 'main', text.de.start.closed);
      assert.equal(await guest.page.$('[data-testid=open-submit]'), null);
      const found = await guest.inspect('start-closed');
      await guest.goto('/r/noch-nicht');
      await guest.type('name-input', guest.name);
      await guest.click('prejoin-join');
      await says(guest, '[role=alert]', text.de.error.no_such_room);
      found.push(...await guest.inspect('no-such-room', { dark: true }));
      guest.problems = guest.problems.filter((problem) => !problem.includes('404'));
      await passes(guest, found);
    } finally {
      await closed.stop();
    }
  });

  test('while it connects, and after the meeting', async () => {
    // Here it is looked at for longer than the client waits.
    const guest = await visitor({ init: () => { AbortSignal.timeout = () => new AbortController().signal; } });
    const found = [];
    await guest.goto('/r/langsam');
    await guest.type('name-input', guest.name);
    await until('the meeting can begin', () => guest.page.$eval('[data-testid=preview]', (video) => video.videoWidth > 0));
    // The page has loaded all it needs by now; a server that stands still is one that is slow.
    await guest.page.waitForNetworkIdle();
    process.kill(server.pid, 'SIGSTOP');
    try {
      await guest.click('prejoin-join');
      await guest.find('connecting');
      found.push(...await guest.inspect('connecting', { dark: true }));
    } finally {
      process.kill(server.pid, 'SIGCONT');
    }
    await guest.find('call', 60_000);
    await titled(guest, 'a meeting');
    await guest.click('tool-leave');
    await heading(guest, text.de.end.left.heading);
    await titled(guest, 'the end');
    found.push(...await guest.inspect('end', { dark: true }));
    await guest.click('end-again');
    await guest.enter();
    await passes(guest, found);
  });
});
