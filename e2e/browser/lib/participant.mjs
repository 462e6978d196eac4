// A participant in a browser page, as node sees it: every function of page/participant.mjs under the same name.
import { until } from './wait.mjs';
import { token } from './token.mjs';

/** Whether two hues (degrees) are the same colour after encoding. */
export const sameHue = (a, b) => a !== null && Math.min(Math.abs(a - b), 360 - Math.abs(a - b)) <= 14;
/** Whether a heard frequency is the sent one, within the analyser's resolution. */
export const sameTone = (a, b) => a !== null && Math.abs(a - b) <= 15;

/** Runs in a page before anything else: its PeerConnections accept no video in these codecs (`VP9`), whoever offers. */
function refuse(codecs) {
  const own = RTCRtpReceiver.getCapabilities('video').codecs.filter(({ mimeType }) => !codecs.includes(mimeType.split('/')[1]));
  const restrict = (transceiver) => {
    if (transceiver.receiver.track.kind === 'video' && transceiver.direction !== 'stopped') transceiver.setCodecPreferences(own);
  };
  const { addTransceiver, setRemoteDescription } = RTCPeerConnection.prototype;
  Object.assign(RTCPeerConnection.prototype, {
    addTransceiver(...args) {
      const transceiver = addTransceiver.apply(this, args);
      restrict(transceiver);
      return transceiver;
    },
    async setRemoteDescription(...args) {
      await setRemoteDescription.apply(this, args);
      this.getTransceivers().forEach(restrict);
    },
  });
}

/**
 * One page with the bare client, which takes no video in the codecs that it `refuses`.
 * `await Participant.open(browser, pages, { identity, hue, hertz, v1 })`, then `join`, `publish` and the page's functions by `call`.
 */
export class Participant {
  static async open(browser, pages, { identity, hue, hertz, v1, refuses = [] }) {
    const participant = new Participant();
    Object.assign(participant, { identity, hue, hertz, v1, trouble: [] });
    participant.page = await browser.newPage();
    participant.page.on('pageerror', (error) => participant.trouble.push(`page error: ${error.message}`));
    participant.page.on('console', (message) => {
      if (['error', 'warn'].includes(message.type())) participant.trouble.push(`${message.type()}: ${message.text().slice(0, 500)}`);
    });
    if (refuses.length > 0) await participant.page.evaluateOnNewDocument(refuse, refuses);
    await participant.page.goto(pages.url);
    return participant;
  }

  call(name, ...args) {
    return this.page.evaluate((which, values) => window.participant[which](...values), name, args);
  }

  async join(server, room, { grants, claims, ...how } = {}) {
    const joined = await this.call('join', { url: server.ws, token: token(server, room, this.identity, grants, claims), v1: this.v1, ...how });
    if (joined.v1 !== this.v1) throw new Error(`${this.identity} asked for ${this.v1 ? 'v1' : 'v0'} and got the other`);
    return joined;
  }

  async publish(camera = {}) {
    await this.call('publishCamera', { hue: this.hue, ...camera });
    await this.call('publishMicrophone', { hertz: this.hertz });
  }

  async reload() {
    await this.page.reload();
  }

  /** Waits until this participant sees the other's own hue, in a picture that keeps coming. */
  async sees(other, { source = 'camera', hue = other.hue, width, ms = 30_000 } = {}) {
    const what = `${this.identity} sees ${other.identity}'s ${source} (hue ${hue}${width ? `, ${width} wide` : ''})`;
    let { frames } = await until(what, async () => {
      const seen = await this.call('look', other.identity, source);
      if (seen && sameHue(seen.hue, hue) && (!width || seen.width === width)) return seen;
      throw new Error(JSON.stringify(seen));
    }, ms);
    await until(`${what}, moving`, async () => {
      const seen = await this.call('look', other.identity, source);
      // Another stream is counted from nothing.
      if (seen) frames = Math.min(frames, seen.frames);
      return seen?.frames > frames + 2;
    }, ms);
  }

  /** Waits until this participant hears the other's own tone. */
  async hears(other, { source = 'microphone', hertz = other.hertz, ms = 30_000 } = {}) {
    await until(`${this.identity} hears ${other.identity}'s ${source} (${hertz} Hz)`, async () => {
      const heard = await this.call('hear', other.identity, source);
      if (sameTone(heard, hertz)) return true;
      throw new Error(`${heard} Hz`);
    }, ms);
  }

  /** Waits for an event of the client that `matches`. */
  awaits(event, matches = () => true, ms = 15_000) {
    return until(`${this.identity} gets ${event}`, async () => (await this.call('events')).find((entry) => entry.event === event && matches(entry)), ms);
  }

  /** Waits for what `others()` answers. */
  awaitsOthers(what, matches, ms = 15_000) {
    return until(`${this.identity}: ${what}`, async () => {
      const others = await this.call('others');
      if (matches(others)) return true;
      throw new Error(JSON.stringify(others));
    }, ms);
  }
}
