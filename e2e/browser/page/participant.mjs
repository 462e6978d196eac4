// The bare page of the protocol tests: one livekit-client participant, steered from node through `window.participant`.
import { Room, RoomEvent, Track, VideoQuality } from 'livekit-client';
import { camera, ear, hueOf, microphone } from './sources.mjs';

let room;
/** Others of this page. */
const crowd = [];
/** What the client reported, in order: `{ event, ...details }`. */
let events = [];
/** `SignalConnectionState` of livekit-client, which does not export it. */
const SOCKET_STATES = ['connecting', 'connected', 'reconnecting', 'disconnecting', 'disconnected'];
/** What `expectResume` waits for. */
let resuming;
/** Received tracks by `identity/source`: `{ track, element, ear }`. */
const received = new Map();

const place = (participant, publication) => `${participant.identity}/${publication.source}`;

function watch(current) {
  const note = (event, details = {}) => { if (current === room) events.push({ event, at: performance.now(), ...details }); };
  current
    .on(RoomEvent.TrackSubscribed, (track, publication, participant) => {
      const element = track.attach();
      element.muted = true;
      document.body.append(element);
      received.set(place(participant, publication), { track, element, ear: track.kind === 'audio' ? ear(track.mediaStreamTrack) : null });
      note('trackSubscribed', { from: participant.identity, source: publication.source });
    })
    .on(RoomEvent.TrackUnsubscribed, (track, publication, participant) => {
      for (const element of track.detach()) element.remove();
      const entry = received.get(place(participant, publication));
      // A participant who was replaced by a namesake goes after the namesake's tracks came.
      if (entry?.track === track) {
        entry.ear?.then((listener) => listener.close());
        received.delete(place(participant, publication));
      }
      note('trackUnsubscribed', { from: participant.identity, source: publication.source });
    })
    .on(RoomEvent.DataReceived, (bytes, participant, kind, topic) =>
      note('data', { from: participant?.identity, kind, topic, length: bytes.length, text: new TextDecoder().decode(bytes.slice(0, 200)) }))
    .on(RoomEvent.Disconnected, (reason) => note('disconnected', { reason }))
    .on(RoomEvent.Reconnecting, () => note('reconnecting'))
    .on(RoomEvent.Reconnected, () => note('reconnected'))
    .on(RoomEvent.SignalReconnecting, () => note('signalReconnecting'))
    .on(RoomEvent.TrackMuted, (publication, participant) => note('muted', { from: participant.identity, source: publication.source }))
    .on(RoomEvent.TrackUnmuted, (publication, participant) => note('unmuted', { from: participant.identity, source: publication.source }))
    .on(RoomEvent.TrackSubscriptionFailed, (sid, participant, error) => note('subscriptionFailed', { sid, from: participant.identity, error }))
    .on(RoomEvent.TrackSubscriptionPermissionChanged, (publication, status, participant) =>
      note('subscriptionPermission', { from: participant.identity, source: publication.source, status }))
    .on(RoomEvent.ParticipantPermissionsChanged, (_, participant) => note('permissions', { from: participant.identity, canPublish: participant.permissions?.canPublish }))
    .on(RoomEvent.ActiveSpeakersChanged, (speakers) => note('speakers', { identities: speakers.map((speaker) => speaker.identity) }))
    .on(RoomEvent.ConnectionQualityChanged, (quality, participant) => note('quality', { from: participant.identity, quality }))
    .on(RoomEvent.RoomMetadataChanged, (metadata) => note('roomMetadata', { metadata }))
    .on(RoomEvent.TrackStreamStateChanged, (publication, state, participant) => note('streamState', { from: participant.identity, source: publication.source, state }));
  current.registerTextStreamHandler('e2e', async (reader, { identity }) => note('text', { from: identity, text: await reader.readAll() }));
}

const publication = (identity, source) => [...room.remoteParticipants.values()]
  .find((participant) => participant.identity === identity)?.getTrackPublication(source);

const own = (source) => room.localParticipant.getTrackPublication(source);

async function outbound(source) {
  const stats = await own(source)?.track?.getRTCStatsReport();
  return [...(stats?.values() ?? [])].filter((report) => report.type === 'outbound-rtp');
}

/** How long pictures and voices stand still, by `identity/source`: when something last came, the longest wait (ms), how much came. */
const still = new Map();

function came(place, now, more) {
  const known = still.get(place) ?? { last: now, longest: 0, count: 0 };
  still.set(place, { last: now, longest: Math.max(known.longest, now - known.last), count: known.count + more });
}

window.participant = {
  /** Joins; `v1` selects one PeerConnection (`/rtc/v1`) or two (`/rtc`). */
  async join({ url, token, v1, options = {}, connect = {} }) {
    room = new Room({ singlePeerConnection: v1, ...options });
    events = [];
    watch(room);
    await room.connect(url, token, { maxRetries: 0, ...connect });
    return { identity: room.localParticipant.identity, sid: room.localParticipant.sid, v1: room.engine.pcManager?.mode === 'publisher-only' };
  },

  async leave() {
    await room?.disconnect();
  },

  /** Others who only show small pictures: one camera each, without layers. */
  async crowd({ url, tokens, v1, hues }) {
    for (const [number, token] of tokens.entries()) {
      const other = new Room({ singlePeerConnection: v1 });
      await other.connect(url, token, { maxRetries: 0, autoSubscribe: false });
      const small = camera({ hue: hues[number], width: 320, height: 180, fps: 8, busy: true });
      await other.localParticipant.publishTrack(small, {
        source: Track.Source.Camera, simulcast: false, videoEncoding: { maxBitrate: 120_000, maxFramerate: 8 },
      });
      crowd.push(other);
    }
  },

  async disperse() {
    await Promise.all(crowd.splice(0).map((other) => other.disconnect()));
  },

  /** Loses the WebSocket (`signal-reconnect`), or everything (`full-reconnect`), as on a bad network. */
  async lose(scenario) {
    await room.simulateScenario(scenario);
  },

  sid: () => room.localParticipant.sid,

  async publishCamera(options) {
    await room.localParticipant.publishTrack(camera(options), { source: Track.Source.Camera, ...options.publish });
  },

  async publishMicrophone(options) {
    await room.localParticipant.publishTrack(await microphone(options), { source: options.source ?? Track.Source.Microphone });
  },

  async publishScreen({ hue, hertz }) {
    await room.localParticipant.publishTrack(camera({ hue, width: 1920, height: 1080, fps: 5 }), { source: Track.Source.ScreenShare, simulcast: false });
    await room.localParticipant.publishTrack(await microphone({ hertz }), { source: Track.Source.ScreenShareAudio });
  },

  async unpublish(source) {
    await room.localParticipant.unpublishTrack(own(source).track);
  },

  async mute(source, muted) {
    await (muted ? own(source).mute() : own(source).unmute());
  },

  isMuted: (identity, source) => (identity === room.localParticipant.identity ? own(source) : publication(identity, source))?.isMuted ?? null,

  async send(text, options = {}) {
    await room.localParticipant.publishData(new TextEncoder().encode(text), options);
  },

  async sendText(text, options = {}) {
    await room.localParticipant.sendText(text, { topic: 'e2e', ...options });
  },

  subscribe: (identity, source, wanted) => publication(identity, source).setSubscribed(wanted),
  enable: (identity, source, wanted) => publication(identity, source).setEnabled(wanted),
  quality: (identity, source, quality) => publication(identity, source).setVideoQuality(VideoQuality[quality]),
  allowSubscribers: (all, permissions = []) => room.localParticipant.setTrackSubscriptionPermissions(all, permissions),
  setMetadata: (metadata) => room.localParticipant.setMetadata(metadata),
  setAttributes: (attributes) => room.localParticipant.setAttributes(attributes),

  state: () => room?.state ?? 'none',
  /** Whether the WebSocket is open and taken into use: the first thing that comes back in a resume. */
  socket: () => SOCKET_STATES[room.engine.client.currentState],
  events: () => events,
  count: (name) => events.filter(({ event }) => event === name).length,

  /** Who is there, as this client sees it. */
  others: () => [...room.remoteParticipants.values()].map((participant) => ({
    identity: participant.identity,
    name: participant.name,
    metadata: participant.metadata,
    attributes: { ...participant.attributes },
    tracks: [...participant.trackPublications.values()].map(({ source, isMuted, isSubscribed, simulcasted, mimeType }) => ({ source, isMuted, isSubscribed, simulcasted, mimeType })),
  })),

  /** What is seen of a participant: `{ hue, width, height, frames }`, null while nothing is received. */
  async look(identity, source = 'camera') {
    const entry = received.get(`${identity}/${source}`);
    if (!entry) return null;
    const stats = await entry.track.getReceiverStats();
    return { hue: hueOf(entry.element), width: entry.element.videoWidth, height: entry.element.videoHeight, frames: stats?.framesDecoded ?? 0 };
  },

  /** How a participant's track is received: the codec the decoder runs (`video/VP8`), and the stream it is played in sync with. */
  async receives(identity, source = 'camera') {
    const entry = received.get(`${identity}/${source}`);
    const reports = await entry?.track.receiver?.getStats();
    const inbound = [...(reports?.values() ?? [])].find(({ type }) => type === 'inbound-rtp');
    return { codec: reports?.get(inbound?.codecId)?.mimeType ?? null, stream: entry?.track.mediaStream?.id ?? null };
  },

  /** What is received of a participant's track, counted since it came (W3C webrtc-stats `inbound-rtp`). */
  async received(identity, source = 'camera') {
    const reports = await received.get(`${identity}/${source}`)?.track.receiver?.getStats();
    const inbound = [...(reports?.values() ?? [])].find(({ type }) => type === 'inbound-rtp');
    if (!inbound) return null;
    const wanted = ['frameWidth', 'framesDecoded', 'keyFramesDecoded', 'freezeCount', 'totalFreezesDuration', 'pliCount', 'nackCount', 'concealedSamples',
      'silentConcealedSamples', 'concealmentEvents', 'totalSamplesReceived', 'packetsLost', 'packetsReceived', 'fecPacketsReceived', 'fecPacketsDiscarded',
      'jitterBufferDelay', 'jitterBufferEmittedCount', 'retransmittedPacketsReceived'];
    return Object.fromEntries(wanted.filter((name) => inbound[name] !== undefined).map((name) => [name, inbound[name]]));
  },

  /** From now on listens for the server's asking for the layer `rid` of our camera in one `codec`, else in any; `resumed` tells what came of it. */
  async expectResume(rid, codec, ms = 15_000) {
    const backup = () => own('camera').track.simulcastCodecs.get(codec)?.sender.getStats();
    const reports = async () => (codec ? [...((await backup())?.values() ?? [])].filter(({ type }) => type === 'outbound-rtp') : outbound('camera'));
    const keyFrames = async () => (await reports()).find((report) => report.rid === rid)?.keyFramesEncoded ?? 0;
    const before = await keyFrames();
    resuming = new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${rid} was not asked for within ${ms} ms`)), ms);
      const asked = async (update) => {
        const wanted = { q: 0, h: 1, f: 2 }[rid];
        const all = update.subscribedCodecs.filter((asked) => !codec || asked.codec === codec).flatMap(({ qualities }) => qualities);
        if (!all.some(({ quality, enabled }) => quality === wanted && enabled)) return;
        clearTimeout(late);
        room.engine.off('subscribedQualityUpdate', asked);
        const start = performance.now();
        while ((await keyFrames()) <= before && performance.now() - start < ms) await new Promise((next) => setTimeout(next, 5));
        resolve(Math.round(performance.now() - start));
      };
      room.engine.on('subscribedQualityUpdate', asked);
    });
    resuming.catch(() => {}); // told to who asks
  },

  /**
   * How long (ms) after the server had asked the layer's encoder made a key frame; `getStats()` is at most 50 ms behind. As long
   * as `expectResume` waits at most if it made none: the browser has taken the line for too narrow.
   */
  resumed: () => resuming,

  /**
   * How a participant's picture comes in the next `seconds`: its frames, the longest time without a new one (ms), and the
   * widths it had, each with when it came (ms).
   */
  async watch(identity, seconds, source = 'camera') {
    // Not from the element: a page that is not in front shows nothing.
    const track = received.get(`${identity}/${source}`).track.mediaStreamTrack.clone();
    const frames = new MediaStreamTrackProcessor({ track }).readable.getReader();
    const start = performance.now();
    const end = setTimeout(() => track.stop(), seconds * 1000); // which ends the frames
    let [last, longest, count] = [start, 0, 0];
    const widths = [];
    for (let { done, value } = await frames.read(); !done; { done, value } = await frames.read()) {
      const [now, width] = [performance.now(), value.displayWidth];
      value.close();
      longest = Math.max(longest, now - last);
      last = now;
      count += 1;
      if (widths.at(-1)?.[1] !== width) widths.push([Math.round(now - start), width]);
    }
    clearTimeout(end);
    return { frames: count, longest: Math.round(Math.max(longest, performance.now() - last)), widths };
  },

  /** From now on it is watched how long each picture and each voice stands still; `getStats()` is at most 50 ms behind. */
  async watchGaps() {
    still.clear();
    const before = new Map();
    clearInterval(window.gapsTimer);
    window.gapsTimer = setInterval(() => {
      for (const [name, { track }] of received) {
        track.receiver?.getStats().then((reports) => {
          const inbound = [...reports.values()].find(({ type }) => type === 'inbound-rtp');
          const count = track.kind === 'video' ? inbound?.framesDecoded : inbound?.packetsReceived;
          if (!count) return;
          const { ssrc, seen } = before.get(name) ?? {};
          // Its count begins anew with another stream.
          const more = ssrc === inbound.ssrc && seen <= count ? count - seen : count;
          if (more > 0) came(name, performance.now(), before.has(name) ? more : 0);
          before.set(name, { ssrc: inbound.ssrc, seen: count });
        });
      }
    }, 20);
  },

  /** The longest wait for each, ms, the one that may be going on included. */
  gaps: () => Object.fromEntries([...still].map(([name, { last, longest }]) => [name, Math.round(Math.max(longest, performance.now() - last))])),

  /** Of each, how many pictures were decoded (packets of a voice came) since `watchGaps`. */
  counts: () => Object.fromEntries([...still].map(([name, { count }]) => [name, count])),

  /** The strongest frequency heard of a participant, null in silence or while nothing is received. */
  hear: async (identity, source = 'microphone') => (await received.get(`${identity}/${source}`)?.ear)?.hertz() ?? null,

  /** The simulcast layers being sent, widest first: `{ rid, width, frames }`. */
  async layers(source = 'camera') {
    return (await outbound(source))
      .map(({ rid, frameWidth: width, framesSent: frames, active, targetBitrate }) => ({ rid, width, frames, active, targetBitrate }))
      .sort((a, b) => (b.width ?? 0) - (a.width ?? 0));
  },

  /** How many pictures were encoded of our camera in each codec in which it was published so far: `{ vp9: 120, vp8: 0 }`. */
  async encoded(source = 'camera') {
    const { codec, sender, simulcastCodecs } = own(source).track;
    const senders = [[codec, sender], ...[...simulcastCodecs].map(([name, backup]) => [name, backup.sender])];
    const count = async (of) => {
      const reports = [...((await of?.getStats())?.values() ?? [])].filter(({ type }) => type === 'outbound-rtp');
      return reports.reduce((sum, { framesEncoded = 0 }) => sum + framesEncoded, 0);
    };
    return Object.fromEntries(await Promise.all(senders.map(async ([name, of]) => [name, await count(of)])));
  },

  /** Joins and measures: milliseconds from `connect()` to connected and to the first decoded frame of `identity`'s camera. */
  async timeFirstFrame({ url, token, v1, identity }) {
    const current = new Room({ singlePeerConnection: v1 });
    const frame = new Promise((resolve) => {
      current.on(RoomEvent.TrackSubscribed, (track, { source }, participant) => {
        if (source !== 'camera' || participant.identity !== identity) return;
        const element = track.attach();
        element.muted = true;
        document.body.append(element);
        element.requestVideoFrameCallback(() => resolve(performance.now()));
      });
    });
    const start = performance.now();
    await current.connect(url, token, { maxRetries: 0 });
    const connected = performance.now() - start;
    const first = (await frame) - start;
    await current.disconnect();
    document.querySelectorAll('video').forEach((element) => element.remove());
    return { connected, first };
  },
};
