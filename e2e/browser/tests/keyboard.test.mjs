// The web client by keys alone, from the start page through a meeting to its end: every stop shows that it has the focus, and
// the focus is never lost when a screen changes or a dialog or panel closes.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Guest } from '../lib/guest.mjs';
import { ours, startServer } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

/** More stops than any screen has. */
const STOPS = 60;

describe('the web client by keyboard', { skip: !ours && 'only our server has a web client' }, () => {
  const step = steps();
  let server, browsers, anna, bela, keys;

  before(async () => {
    server = await startServer();
    browsers = await Promise.all([launch('chromium'), launch('chromium')]);
    anna = await Guest.open(browsers[0], server, { name: 'Anna Albers', hue: 0, hertz: 440 });
    bela = await Guest.open(browsers[1], server, { name: 'Bela Bräuer', hue: 120, hertz: 1000 });
    keys = anna.page.keyboard;
  });

  afterEach(async (context) => {
    if (context.error) context.diagnostic(JSON.stringify(await focus().catch(String)));
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await server?.stop();
  });

  /** What has the focus: `{ name, testid, place, visible }`; `place` is the dialog, panel or region that it is in. */
  const focus = () => anna.page.evaluate(() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth, outlineColor, opacity } = getComputedStyle(element);
    const { top, left, right, bottom } = element.getBoundingClientRect();
    const onScreen = bottom > 0 && right > 0 && top < innerHeight && left < innerWidth;
    return {
      name: `${element.tagName} ${element.getAttribute('aria-label') ?? element.textContent.slice(0, 60)}`,
      testid: element.dataset.testid ?? null,
      place: element.closest('dialog') ? 'dialog' : element.closest('[data-region]')?.dataset.region ?? null,
      visible: onScreen && opacity === '1' && outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2 && !/, 0\)$|transparent/.test(outlineColor),
      lost: element === document.body || element === document.documentElement,
    };
  });

  /** Presses Tab (or Shift+Tab) until `testid` has the focus; every stop before must show itself, and be within `within`. */
  async function tabTo(testid, { back = false, within } = {}) {
    const passed = [];
    for (let stop = 0; stop < STOPS; stop += 1) {
      if (back) await keys.down('Shift');
      await keys.press('Tab');
      if (back) await keys.up('Shift');
      // A control that shows itself only with the focus does it in some milliseconds.
      const at = await until('the focus shows', async () => {
        const now = await focus();
        // Past the last control comes the browser's own frame, then the first.
        if (now.visible || now.lost) return now;
        throw new Error(JSON.stringify(now));
      }, 5000);
      passed.push(at.name);
      if (within && !at.lost) assert.equal(at.place, within, `${at.name} is outside`);
      if (at.testid === testid) return;
    }
    assert.fail(`${testid} is not reached, only: ${passed.join(' → ')}`);
  }

  /** Waits until what has the focus is what it should be. */
  const focusIs = (what, matches) => until(`the focus is on ${what}`, async () => {
    const now = await focus();
    if (matches(now) && !now.lost) return true;
    throw new Error(JSON.stringify(now));
  });
  const focusIsOn = (testid) => focusIs(testid, (now) => now.testid === testid && now.visible);

  const gone = (selector) => anna.page.waitForSelector(selector, { hidden: true });

  step('from the start page into a meeting', async () => {
    await anna.goto('/');
    await anna.find('open-submit');
    await tabTo('open-submit');
    await keys.press('Enter');
    await anna.find('name-input');
    await focusIs('the new screen', ({ name }) => name.startsWith('MAIN'));
    await tabTo('prejoin-microphone');
    await tabTo('name-input');
    await keys.type(anna.name);
    await anna.find('preview');
    await keys.press('Enter');
    await anna.find('call', 30_000);
    await focusIs('the heading', ({ name, visible }) => name.startsWith('H1') && visible);
    await bela.goto(new URL(anna.page.url()).pathname);
    await bela.enter();
    await anna.awaitsPeople(2);
    await bela.sees(anna);
    await bela.hears(anna.hertz);
  });

  step('mutes and unmutes', async () => {
    const pressed = (wanted) => until(`the microphone is ${wanted ? 'on' : 'off'}`, () => anna.page.$eval('[data-testid=tool-microphone]', (button, on) => button.ariaPressed === String(on), wanted));
    await tabTo('tool-microphone');
    await keys.press('Space');
    await pressed(false);
    await focusIsOn('tool-microphone');
    await bela.awaitsTile(anna, 'sees anna muted', (seen) => seen.microphone.startsWith('Mikrofon aus'));
    await bela.hears();
    await keys.press('Enter');
    await pressed(true);
    await focusIsOn('tool-microphone');
    await bela.hears(anna.hertz);
  });

  step('writes in the chat', async () => {
    await tabTo('tool-chat');
    await keys.press('Enter');
    await focusIs('the chat', ({ name, place, visible }) => name.startsWith('H2') && place === 'panel' && visible);
    await tabTo('chat-input', { within: 'panel' });
    await keys.type('Nur mit Tasten');
    await tabTo('chat-send', { within: 'panel' });
    await keys.press('Space');
    await anna.find('chat-message');
    await tabTo('chat-input', { back: true, within: 'panel' });
    await keys.type('und noch einmal');
    await keys.press('Enter');
    await focusIsOn('chat-input');
    await bela.click('tool-chat');
    await until('bela reads both', () => bela.page.$$eval('[data-testid=chat-message]', (messages) =>
      ['Nur mit Tasten', 'und noch einmal'].every((text, index) => messages[index]?.textContent.includes(text))));
    await keys.press('Escape');
    await gone('[data-testid=chat-panel]');
    await focusIsOn('tool-chat');
  });

  step('looks who is there', async () => {
    await tabTo('tool-people', { back: true, within: 'toolbar' });
    await keys.press('Space');
    await focusIs('the list', ({ name, place }) => name.startsWith('H2') && place === 'panel');
    await tabTo('person-actions', { within: 'panel' });
    await keys.press('Enter');
    await tabTo('action-remove', { within: 'panel' });
    await keys.press('Enter');
    await tabTo('remove-confirm', { within: 'dialog' });
    await keys.press('Escape');
    await gone('dialog[open]');
    await focusIsOn('action-remove');
    await tabTo('panel-close', { back: true, within: 'panel' });
    await keys.press('Enter');
    await gone('[data-testid=people-panel]');
    await focusIsOn('tool-people');
  });

  step('makes somebody large, in the speaker view and by hand', async () => {
    const large = () => anna.page.$$eval('[data-testid=tile]', (tiles) => {
      const areas = tiles.map(({ clientWidth, clientHeight }) => clientWidth * clientHeight);
      return Math.max(...areas) > 2 * Math.min(...areas);
    });
    await tabTo('tool-view', { within: 'toolbar' });
    await keys.press('Space');
    await until('one is large', large);
    await keys.press('Space');
    await until('both are equal', async () => !(await large()));
    await focusIsOn('tool-view');
    await tabTo('tile-pin', { back: true });
    await keys.press('Enter');
    await until('one is large', large);
    await focusIs('its button', ({ testid, visible }) => testid === 'tile-pin' && visible);
    await keys.press('Enter');
    await until('both are equal', async () => !(await large()));
    await focusIs('its button', ({ testid, visible }) => testid === 'tile-pin' && visible);
  });

  step('changes the settings', async () => {
    await tabTo('tool-settings');
    await keys.press('Enter');
    await anna.page.waitForSelector('dialog[open]', { visible: true });
    await focusIs('the dialog', ({ place, visible }) => place === 'dialog' && visible);
    await tabTo('microphone-select', { within: 'dialog' });
    const value = () => anna.page.$eval('[data-testid=microphone-select]', (select) => select.selectedIndex);
    // The browser lists the devices a moment after the dialog is there.
    await until('there is another device', () => anna.page.$eval('[data-testid=microphone-select]', (select) => select.options.length > 1));
    assert.equal(await value(), 0);
    await keys.press('ArrowDown');
    await until('the next device is chosen', async () => (await value()) === 1);
    await focusIsOn('microphone-select');
    await tabTo('language-en', { within: 'dialog' });
    await keys.press('Enter');
    await until('the meeting speaks English', () => anna.page.evaluate(() => document.documentElement.lang === 'en'));
    await tabTo('language-de', { back: true, within: 'dialog' });
    await keys.press('Space');
    await until('the meeting speaks German', () => anna.page.evaluate(() => document.documentElement.lang === 'de'));
    await keys.press('Escape');
    await gone('dialog[open]');
    await focusIsOn('tool-settings');
  });

  step('goes from region to region', async () => {
    for (const region of ['stage', 'toolbar', 'stage']) {
      await keys.press('F6');
      await focusIs(region, ({ place, visible }) => place === region && visible);
    }
    await keys.press('F2');
    await focusIsOn('tool-microphone');
  });

  step('leaves', async () => {
    await tabTo('tool-leave', { within: 'toolbar' });
    await keys.press('Enter');
    await anna.page.waitForSelector('dialog[open]', { visible: true });
    await keys.press('Escape');
    await gone('dialog[open]');
    await focusIsOn('tool-leave');
    await keys.press('Space');
    await tabTo('leave-self', { within: 'dialog' });
    await keys.press('Enter');
    await anna.find('end-again');
    await focusIs('the new screen', ({ name }) => name.startsWith('MAIN'));
    await tabTo('end-again');
    await bela.awaitsPeople(1);
  });

  step('no foreign request, no policy violation, no error on any page', async () => {
    for (const guest of [anna, bela]) assert.deepEqual(await guest.allProblems(), [], guest.name);
  });
});
