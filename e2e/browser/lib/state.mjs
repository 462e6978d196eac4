// What a meeting is, as the server API of any server of a cluster tells: the part that must outlive a server, and the ids of those whose stay goes on.
import { roomService } from './token.mjs';
import { until } from './wait.mjs';

/** What belongs to a stay, a connection or a moment, not to the meeting; and what Chromium guesses anew of each microphone: its channels. */
const PASSING = new Set(['sid', 'mid', 'ssrc', 'version', 'joinedAt', 'joinedAtMs', 'stereo', 'audioFeatures']);

const lasting = (value) => {
  if (Array.isArray(value)) return value.map(lasting);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).filter(([name]) => !PASSING.has(name)).map(([name, inner]) => [name, lasting(inner)]));
};

const sorted = (list = [], key) => [...list].sort((a, b) => (a[key] < b[key] ? -1 : 1));

/**
 * The meeting in `room` as `server` tells it: `{ room, people, sids }`. `people` by identity, with names, metadata, attributes,
 * permissions and tracks; `sids` by identity, the participant's and those of its tracks.
 */
export async function stateOf(server, room) {
  const [{ rooms }, { participants }] = await Promise.all([roomService(server, 'ListRooms', { names: [room] }), roomService(server, 'ListParticipants', { room })]);
  const all = sorted(participants, 'identity').map((one) => ({ ...one, tracks: sorted(one.tracks, 'source') }));
  return {
    room: { sid: rooms[0]?.sid, metadata: rooms[0]?.metadata, participants: rooms[0]?.numParticipants, publishers: rooms[0]?.numPublishers },
    people: Object.fromEntries(all.map((one) => [one.identity, lasting(one)])),
    sids: Object.fromEntries(all.map(({ identity, sid, tracks }) => [identity, [sid, ...tracks.map((track) => track.sid)]])),
  };
}

/** Mutes somebody's track as a moderator does, once the server has heard of it. `source` as the server API names it. */
export async function muteTrack(server, room, identity, source) {
  const { sid } = await until(`${identity} publishes ${source}`, async () => (await roomService(server, 'GetParticipant', { room, identity })).tracks?.find((track) => track.source === source));
  await roomService(server, 'MutePublishedTrack', { room, identity, track_sid: sid, muted: true });
}
