// A person in the web client, as a test steers it: by the test ids that web/ keeps stable, in a browser of its own.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './pages.mjs';
import { sameHue, sameTone } from './participant.mjs';
import { until } from './wait.mjs';

const OUT = join(dirname(fileURLToPath(import.meta.url)), '../out');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PHONE = { width: 390, height: 844 };

/** One page of the web client. `guest.problems` collects what must not happen anywhere. */
export class Guest {
  static async open(browser, server, { name, hue, hertz, share = { hue: 60, hertz: 2500 }, width = 1440, height = 900 }) {
    const guest = new Guest();
    Object.assign(guest, { name, hue, hertz, share, server, problems: [], viewport: { width, height } });
    const page = guest.page = await browser.newPage();
    await page.setViewport(guest.viewport);
    page.on('pageerror', (error) => guest.problems.push(`page error: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') guest.problems.push(`console: ${message.text().slice(0, 300)}`);
    });
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith('http') && url.origin !== server.http) guest.problems.push(`foreign request: ${url}`);
    });
    // An empty page has no devices, and nothing to test.
    const devices = `if (!navigator.mediaDevices) return; window.e2eDevices = ${JSON.stringify({ hue, hertz, share })};`;
    await page.evaluateOnNewDocument(new Function(`${devices}\n${await bundle('devices.mjs')}`));
    return guest;
  }

  call(name, ...args) {
    return this.page.evaluate((which, values) => window.e2e[which](...values), name, args);
  }

  async goto(path) {
    await this.page.goto(`${this.server.http}${path}`);
  }

  /** Waits until there is something with a test id, and answers its handle. */
  find(testid, ms = 15_000) {
    return this.page.waitForSelector(`[data-testid=${testid}]`, { visible: true, timeout: ms });
  }

  /** Clicks in the page itself: a click at coordinates would depend on what the two cores have painted yet. */
  async click(testid) {
    await (await this.find(testid)).evaluate((element) => element.click());
  }

  async type(testid, text) {
    const field = await this.find(testid);
    await field.focus();
    await field.type(text);
  }

  /** Goes through the screen before the meeting and waits until in it. */
  async enter() {
    const field = await this.find('name-input');
    if ((await field.evaluate((element) => element.value)) === '') await field.type(this.name);
    await until(`${this.name}'s devices run`, () => this.page.$eval('video[data-testid=preview]', (video) => video.videoWidth > 0));
    await this.click('prejoin-join');
    await this.find('call', 30_000);
  }

  async sees(other, { kind = 'camera', hue = other.hue, width, ms = 40_000 } = {}) {
    const what = `${this.name} sees ${other.name}'s ${kind} (hue ${hue}${width ? `, ${width} wide` : ''})`;
    const first = await until(what, async () => {
      const seen = await this.call('look', other.name, kind);
      if (seen && sameHue(seen.hue, hue) && (!width || seen.width === width)) return seen;
      throw new Error(JSON.stringify(seen));
    }, ms);
    await until(`${what}, moving`, async () => (await this.call('look', other.name, kind))?.time > first.time, ms);
  }

  /** Waits until exactly these tones are heard. */
  async hears(...tones) {
    await until(`${this.name} hears ${tones.join(' and ')} Hz`, async () => {
      const heard = (await this.call('hear')).filter((hertz) => hertz !== null);
      if (heard.length === tones.length && tones.every((tone) => heard.some((hertz) => sameTone(hertz, tone)))) return true;
      throw new Error(JSON.stringify(heard));
    }, 30_000);
  }

  /** Waits for what a tile says of somebody. */
  awaitsTile(other, what, matches, kind = 'camera') {
    return until(`${this.name}: ${what}`, async () => {
      const seen = await this.call('look', other.name, kind);
      if (matches(seen)) return true;
      throw new Error(JSON.stringify(seen));
    });
  }

  /** Waits until so many people are in the meeting. */
  awaitsPeople(count) {
    return until(`${this.name} has ${count} people`, async () => {
      const text = await this.page.$eval('[data-testid=people-count]', (element) => element.textContent);
      if (Number.parseInt(text, 10) === count) return true;
      throw new Error(text);
    });
  }

  /** Checks the screen by axe-core and keeps a picture of it, on this viewport and on a phone's. */
  async inspect(screen) {
    mkdirSync(OUT, { recursive: true });
    const found = [];
    for (const [where, viewport] of [['desktop', this.viewport], ['phone', PHONE]]) {
      await this.page.setViewport(viewport);
      await this.page.screenshot({ path: join(OUT, `${screen}-${where}.png`) });
      await this.page.evaluate(axe);
      const violations = await this.page.evaluate(async () => (await window.axe.run(document, { resultTypes: ['violations'] })).violations
        .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`));
      found.push(...violations.map((violation) => `${screen} (${where}): ${violation}`));
    }
    await this.page.setViewport(this.viewport);
    return found;
  }

  /** What must be empty at the end: page errors, foreign requests and sockets, policy violations. */
  async allProblems() {
    const sockets = await this.call('sockets');
    const foreign = sockets.filter((host) => host !== new URL(this.server.http).host).map((host) => `foreign WebSocket: ${host}`);
    return [...this.problems, ...foreign, ...(await this.call('violations')).map((violation) => `policy: ${violation}`)];
  }
}
