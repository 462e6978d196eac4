// Runs before the web client's own code: gives the page a camera and a microphone that can be told apart, and watches what
// the page does (its connections, foreign requests, violations of its content security policy). Nothing of the client's is
// replaced but the devices.
import { camera, ear, hueOf, microphone } from './sources.mjs';

const { hue, hertz, share } = window.e2eDevices;
const own = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);

// Without a hue the browser's own (fake) devices stay.
if (hue !== undefined) navigator.mediaDevices.getUserMedia = async (constraints) => {
  const tracks = [];
  if (constraints.audio) tracks.push(await microphone({ hertz, own }));
  if (constraints.video) tracks.push(camera({ hue, width: 1280, height: 720 }));
  return new MediaStream(tracks);
};
navigator.mediaDevices.getDisplayMedia = async () =>
  new MediaStream([camera({ hue: share.hue, width: 1920, height: 1080, fps: 5 }), await microphone({ hertz: share.hertz, own })]);

const connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    connections.push(this);
  }
};
const connected = () => connections.filter(({ connectionState }) => connectionState === 'connected');
const newest = () => connected().at(-1);

const sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    sockets.push(new URL(url, location.href).host);
  }
};

const violations = [];
document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile }) =>
  violations.push(`${violatedDirective}: ${blockedURI} (${sourceFile})`));

/** By the track itself: with two PeerConnections the track of another connection has the same id. */
const ears = new WeakMap();
const listen = (track) => {
  if (!ears.has(track)) ears.set(track, ear(track));
  return ears.get(track);
};

const tile = (name, kind) => [...document.querySelectorAll(`[data-testid=tile][data-kind=${kind}]`)].find((element) => element.textContent.includes(name));

/** Bytes that each received picture had at `markPictures`, by its track's id. */
let marked = new Map();

async function pictureBytes() {
  const bytes = new Map();
  for (const connection of connected()) {
    for (const { type, kind, trackIdentifier, bytesReceived } of (await connection.getStats()).values()) {
      if (type === 'inbound-rtp' && kind === 'video') bytes.set(trackIdentifier, bytesReceived);
    }
  }
  return bytes;
}

/** By name: when the picture last changed, the longest pause so far (ms). */
const pictures = new Map();
const GRAIN = 10;

function watchPictures() {
  const now = performance.now();
  for (const [name, seen] of pictures) {
    const frames = tile(name, 'camera')?.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
    if (frames > 0 && frames !== seen.frames) {
      seen.longest = Math.max(seen.longest, now - seen.at);
      Object.assign(seen, { frames, at: now });
    }
  }
}

window.e2e = {
  /** Begins to measure anew how long somebody's picture stands still. */
  watch(name) {
    if (pictures.size === 0) setInterval(watchPictures, GRAIN);
    pictures.set(name, { frames: 0, at: performance.now(), longest: 0 });
  },

  /** The longest pause of somebody's picture since `watch`, one that lasts included: `{ longest, frames }`, ms. */
  pause(name) {
    const { at, longest, frames } = pictures.get(name);
    return { longest: Math.max(longest, performance.now() - at), frames };
  },

  violations: () => violations,
  sockets: () => sockets,

  /** What a tile shows: `{ hue, width, microphone }`; null without the tile. */
  look(name, kind = 'camera') {
    const found = tile(name, kind);
    if (!found) return null;
    const video = found.querySelector('video');
    return {
      picture: found.dataset.picture,
      microphone: found.querySelector('[data-testid=tile-microphone]')?.textContent ?? null,
      hue: video ? hueOf(video) : null,
      width: video?.videoWidth ?? 0,
      time: video?.currentTime ?? 0,
    };
  },

  /** The strongest frequency of every remote sound that is played. */
  async hear() {
    const tracks = [...document.querySelectorAll('audio')].flatMap((element) => element.srcObject?.getAudioTracks() ?? []);
    return Promise.all(tracks.filter(({ readyState }) => readyState === 'live').map(async (track) => (await listen(track)).hertz()));
  },

  async markPictures() {
    marked = await pictureBytes();
  },

  /** Of how many pictures something has come since `markPictures`, shown or not. */
  arriving: async () => [...await pictureBytes()].filter(([id, bytes]) => bytes > (marked.get(id) ?? 0)).length,

  /** The devices whose picture and sound are being sent, by their names: `{ video, audio }`. */
  sending() {
    const tracks = connected().flatMap((connection) => connection.getSenders().map(({ track }) => track));
    return Object.fromEntries(tracks.filter((track) => track?.readyState === 'live').map(({ kind, label }) => [kind, label]));
  },

  /** The codecs that the newest connection offers to receive, by section: `{ kind, codecs: ['VP8', 'VP9 profile-id=0', …] }`. */
  offered() {
    const sections = newest().localDescription.sdp.split('\r\nm=').slice(1).filter((section) => section.includes('\r\na=recvonly'));
    return sections.map((section) => ({
      kind: section.split(' ')[0],
      codecs: [...section.matchAll(/a=rtpmap:(\d+) ([^/]+)\//g)].map(([, number, name]) => {
        const format = section.match(new RegExp(`a=fmtp:${number} (.*)`))?.[1] ?? '';
        return `${name} ${format.split(';').filter((pair) => /^(profile-id|profile|packetization-mode)=/.test(pair)).join(';')}`.trim();
      }),
    }));
  },

  /** Where media goes now, `address:port` of the newest connection; null while there is none. */
  async remote() {
    const connection = newest();
    if (!connection) return null;
    const stats = await connection.getStats();
    const transport = [...stats.values()].find(({ type }) => type === 'transport');
    // A pair of before an ICE restart stays in the list, nominated, for a while.
    const remote = stats.get(stats.get(transport?.selectedCandidatePairId)?.remoteCandidateId);
    return remote ? `${remote.address}:${remote.port}` : null;
  },

  /** The widths of the video layers that are being sent, widest first. */
  async layers() {
    const widths = [];
    for (const connection of connections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type === 'outbound-rtp' && report.kind === 'video' && report.framesSent > 0) widths.push(report.frameWidth);
      }
    }
    return widths.sort((a, b) => b - a);
  },
};
