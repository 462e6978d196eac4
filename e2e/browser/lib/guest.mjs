// A person in the web client, as a test steers it: by the test ids that web/ keeps stable, in a browser of its own.
import { inspect } from './inspect.mjs';
import { bundle } from './pages.mjs';
import { sameHue, sameTone } from './participant.mjs';
import { until } from './wait.mjs';

/**
 * One page of the web client, in `browser` or in one of its contexts. Without a `hue` the guest has the devices that the browser
 * gives. `init` is code to run before the client's. `guest.problems` collects what must not happen anywhere.
 */
export class Guest {
  static async open(browser, server, { name, hue, hertz, share = { hue: 60, hertz: 2500 }, width = 1440, height = 900, init }) {
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
    if (init) await page.evaluateOnNewDocument(init);
    return guest;
  }

  call(name, ...args) {
    return this.page.evaluate((which, values) => window.e2e[which](...values), name, args);
  }

  async goto(path) {
    await this.page.goto(`${this.server.http}${path}`);
  }

  /** Waits until there is something with a test id, and answers its handle. */
  find(testid, ms = 30_000) {
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

  /** Waits until what has a test id says so. */
  says(testid, wanted) {
    return until(`${this.name}'s ${testid} says "${wanted}"`, async () => {
      const said = await (await this.find(testid)).evaluate((element) => element.textContent);
      if (said.includes(wanted)) return true;
      throw new Error(said);
    });
  }

  /** Chooses what is called so in a list. */
  async choose(testid, label) {
    const field = await this.find(testid);
    const value = await until(`${testid} offers ${label}`, () => field.evaluate((select, name) => [...select.options].find(({ text }) => text === name)?.value, label));
    await field.select(value);
  }

  /** Fills in the screen before the meeting; `camera: false` if there is none to wait for. */
  async fill({ camera = true } = {}) {
    const field = await this.find('name-input');
    if ((await field.evaluate((element) => element.value)) === '') await field.type(this.name);
    if (camera) await until(`${this.name}'s devices run`, () => this.page.$eval('video[data-testid=preview]', (video) => video.videoWidth > 0));
  }

  /** Goes through the screen before the meeting and waits until in it. */
  async enter(how) {
    await this.fill(how);
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

  /** Waits until exactly the devices of these names are sent. */
  sends(wanted) {
    return until(`${this.name} sends ${JSON.stringify(wanted)}`, async () => {
      const sending = await this.call('sending');
      if (sending.video === wanted.video && sending.audio === wanted.audio) return true;
      throw new Error(JSON.stringify(sending));
    });
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

  /** What is wrong with the screen, see inspect.mjs. */
  inspect(screen, how = {}) {
    return inspect(this.page, screen, { viewport: this.viewport, ...how });
  }

  /** What must be empty at the end: page errors, foreign requests and sockets, policy violations. */
  async allProblems() {
    const sockets = await this.call('sockets');
    const foreign = sockets.filter((host) => host !== new URL(this.server.http).host).map((host) => `foreign WebSocket: ${host}`);
    return [...this.problems, ...foreign, ...(await this.call('violations')).map((violation) => `policy: ${violation}`)];
  }
}
