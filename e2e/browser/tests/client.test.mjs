// The product's main job through its own web client: two Chromium and one Firefox meet by a link, see and hear each other,
// mute, share, chat, reload, are moderated and leave. Every screen is checked by axe-core and photographed into out/.
import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { Guest } from '../lib/guest.mjs';
import { ours, startServer } from '../lib/server.mjs';
import { steps } from '../lib/steps.mjs';
import { until } from '../lib/wait.mjs';

describe('a meeting through the web client', { skip: !ours && 'only our server has a web client' }, () => {
  let server, browsers, anna, bela, cem, everyone, room;
  const problems = [];
  const step = steps();

  before(async () => {
    server = await startServer();
    browsers = await Promise.all([launch('chromium'), launch('chromium'), launch('firefox', { hertz: 1700 })]);
    anna = await Guest.open(browsers[0], server, { name: 'Anna Albers', hue: 0, hertz: 440 });
    bela = await Guest.open(browsers[1], server, { name: 'Bela Bräuer', hue: 120, hertz: 1000 });
    cem = await Guest.open(browsers[2], server, { name: 'Cem Çelik', hue: 240, hertz: 1700, width: 1280, height: 800 });
    everyone = [anna, bela, cem];
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await server?.stop();
  });

  step('the start page opens a room', async () => {
    await anna.goto('/');
    await anna.find('open-submit');
    problems.push(...await anna.inspect('1-start'));
    await anna.click('open-submit');
    await anna.find('name-input');
    room = new URL(anna.page.url()).pathname;
    assert.match(room, /^\/r\/[a-z0-9-]{12,}$/, 'an unguessable name');
    problems.push(...await anna.inspect('2-prejoin'));
  });

  step('everyone joins by the link', async () => {
    await anna.enter();
    await anna.find('alone-link');
    problems.push(...await anna.inspect('3-alone'));
    for (const guest of [bela, cem]) {
      await guest.goto(room);
      await guest.enter();
    }
    for (const guest of everyone) await guest.awaitsPeople(3);
  });

  step('everyone sees and hears the right ones', async () => {
    for (const guest of everyone) {
      const others = everyone.filter((other) => other !== guest);
      for (const other of others) await guest.sees(other);
      await guest.hears(...others.map(({ hertz }) => hertz));
    }
    problems.push(...await anna.inspect('4-grid'));
  });

  step('nothing is offered to be received that does not come', async () => {
    const comes = { audio: ['opus', 'red'], video: ['AV1 profile=0', 'H264 packetization-mode=1', 'VP8', 'VP9 profile-id=0', 'rtx'] };
    const sections = await anna.call('offered');
    for (const kind of ['audio', 'video']) {
      const own = sections.filter((section) => section.kind === kind);
      assert.ok(own.length >= 2, 'one for each track of the others');
      for (const { codecs } of own) assert.deepEqual([...new Set(codecs)].sort(), comes[kind]);
    }
  });

  step('a 720p camera gives three layers, and a large tile shows the top one', async () => {
    const pin = (guest, name) => guest.page.evaluate((who) => {
      const tiles = [...document.querySelectorAll('[data-testid=tile]')];
      tiles.find((tile) => tile.textContent.includes(who)).querySelector('[data-testid=tile-pin]').click();
    }, name);
    await pin(anna, bela.name);
    await anna.sees(bela, { width: 1280, ms: 90_000 }); // Chromium sends it when it has the time to
    await until('bela sends three layers', async () => {
      const layers = await bela.call('layers');
      if (layers.join() === '1280,640,320') return true;
      throw new Error(layers.join());
    }, 40_000);
    problems.push(...await anna.inspect('5-pinned'));
    await pin(anna, bela.name);
  });

  step('a muted microphone is shown and silent, and comes back', async () => {
    await bela.click('tool-microphone');
    for (const guest of [anna, cem]) await guest.awaitsTile(bela, 'sees bela muted', (seen) => seen.microphone.startsWith('Mikrofon aus'));
    await anna.hears(cem.hertz);
    await cem.hears(anna.hertz);
    await bela.click('tool-microphone');
    await anna.hears(bela.hertz, cem.hertz);
    await cem.hears(anna.hertz, bela.hertz);
  });

  step('a camera goes off and on', async () => {
    await bela.click('tool-camera');
    for (const guest of [anna, cem]) await guest.awaitsTile(bela, 'sees bela without a picture', (seen) => seen.picture === 'off');
    await bela.click('tool-camera');
    for (const guest of [anna, cem]) await guest.sees(bela);
  });

  step('a shared screen is seen and heard', async () => {
    await bela.click('tool-share');
    for (const guest of [anna, cem]) {
      await guest.sees(bela, { kind: 'screen', hue: bela.share.hue });
      await until(`${guest.name} hears the share`, async () => (await guest.call('hear')).some((hertz) => hertz && Math.abs(hertz - bela.share.hertz) < 20));
    }
    problems.push(...await anna.inspect('6-share'));
    await bela.click('tool-share');
    for (const guest of [anna, cem]) await guest.awaitsTile(bela, 'sees the share gone', (seen) => seen === null, 'screen');
  });

  step('chat reaches everyone', async () => {
    const says = async (guest, text) => {
      if (!(await guest.page.$('[data-testid=chat-panel]'))) await guest.click('tool-chat');
      await guest.type('chat-input', text);
      await guest.click('chat-send');
    };
    const reads = (guest, from, text) => until(`${guest.name} reads "${text}"`, () => guest.page.$$eval('[data-testid=chat-message]', (messages, who, what) =>
      messages.some(({ textContent }) => textContent.includes(what) && (who === null || textContent.includes(who))), from, text));
    await says(anna, 'Guten Tag zusammen');
    await bela.click('tool-chat');
    await cem.click('tool-chat');
    for (const guest of [bela, cem]) await reads(guest, anna.name, 'Guten Tag zusammen');
    await says(cem, 'Grüße aus Köln');
    for (const guest of [anna, bela]) await reads(guest, cem.name, 'Grüße aus Köln');
    await reads(cem, null, 'Grüße aus Köln');
    problems.push(...await anna.inspect('7-chat'));
    for (const guest of everyone) await guest.click('panel-close');
  });

  step('a reload brings one back to the own seat', async () => {
    await cem.page.reload();
    await cem.enter();
    for (const guest of everyone) await guest.awaitsPeople(3);
    for (const guest of [anna, bela]) await guest.sees(cem);
    for (const other of [anna, bela]) await cem.sees(other);
    await anna.hears(bela.hertz, cem.hertz);
  });

  step('a guest leaves alone, is neither seen nor heard any more, and comes back', async () => {
    await cem.click('tool-leave');
    await cem.says('message-heading', 'Sie haben die Besprechung verlassen');
    for (const [guest, other] of [[anna, bela], [bela, anna]]) {
      await guest.awaitsTile(cem, 'sees cem gone', (seen) => seen === null);
      await guest.awaitsPeople(2);
      await guest.hears(other.hertz);
    }
    await cem.click('end-again');
    await cem.enter();
    for (const guest of everyone) await guest.awaitsPeople(3);
    await cem.sees(anna);
    for (const [guest, other] of [[anna, bela], [bela, anna]]) {
      await guest.sees(cem);
      await guest.hears(other.hertz, cem.hertz);
    }
  });

  step('a moderator leaves alone: the others go on, and the rights are still there on return', async () => {
    await anna.click('tool-leave');
    await anna.click('leave-self');
    await anna.says('message-heading', 'Sie haben die Besprechung verlassen');
    for (const [guest, other] of [[bela, cem], [cem, bela]]) {
      await guest.awaitsTile(anna, 'sees anna gone', (seen) => seen === null);
      await guest.hears(other.hertz);
    }
    await anna.click('end-again');
    await anna.enter();
    for (const guest of everyone) await guest.awaitsPeople(3);
    await bela.sees(anna);
    await bela.hears(anna.hertz, cem.hertz);
    await anna.says('call', 'Sie leiten');
  });

  step('dialogs', async () => {
    for (const [tool, screen] of [['tool-invite', '8-invite'], ['tool-settings', '9-settings'], ['tool-leave', '10-leave']]) {
      await anna.click(tool);
      await anna.page.waitForSelector('[role=dialog], dialog[open]', { visible: true });
      problems.push(...await anna.inspect(screen));
      await anna.page.keyboard.press('Escape');
      await anna.page.waitForSelector('[role=dialog], dialog[open]', { hidden: true });
    }
  });

  step('a moderator mutes and removes', async () => {
    await anna.click('tool-people');
    const act = (other, testid) => until(`${testid} for ${other.name}`, () => anna.page.evaluate((who, action) => {
      const person = [...document.querySelectorAll('[data-testid=person]')].find(({ textContent }) => textContent.includes(who));
      const menu = person.querySelector('[data-testid=person-actions]');
      if (menu.getAttribute('aria-expanded') !== 'true') menu.click();
      const button = person.querySelector(`[data-testid=${action}]`);
      button?.click();
      return button !== null;
    }, other.name, testid));
    await act(bela, 'action-mute');
    problems.push(...await anna.inspect('11-people'));
    await until('bela is muted', async () => (await bela.page.$eval('[data-testid=tool-microphone]', (button) => button.ariaPressed)) === 'false');
    await bela.find('banner-trouble');
    problems.push(...await bela.inspect('12-muted-by-moderator'));
    await cem.hears(anna.hertz);
    await act(cem, 'action-remove');
    await anna.find('remove-confirm');
    problems.push(...await anna.inspect('13-remove'));
    await anna.click('remove-confirm');
    await cem.find('message-heading');
    assert.equal(await cem.page.$('[data-testid=end-again]'), null, 'who was removed is not asked to come again');
    await anna.awaitsPeople(2);
    await anna.click('panel-close');
  });

  step('a moderator ends the meeting for all', async () => {
    await anna.click('tool-leave');
    await anna.click('leave-all');
    for (const guest of [anna, bela]) await guest.find('message-heading');
    problems.push(...await bela.inspect('14-end'));
  });

  step('no screen has an accessibility violation', () => assert.deepEqual(problems, []));

  step('no foreign request, no policy violation, no error on any page', async () => {
    for (const guest of everyone) assert.deepEqual(await guest.allProblems(), [], guest.name);
  });
});
