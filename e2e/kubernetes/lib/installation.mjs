// One installation as the test makes it: its VideoConference, its bridges as the status tells them, who is in a room.
import { token } from '../../browser/lib/token.mjs';
import { HOST } from './certificate.mjs';

export const SPACE = 'konferenz';
export const NAME = 'konferenz';
/** The port of every node that leads to the bridges. */
export const NODE_PORT = 30443;

/** The resource. One seat a bridge: two people sit on two bridges. */
export function videoConference(image, spec = {}) {
  return {
    apiVersion: 'ratssaal.io/v1alpha1', kind: 'VideoConference', metadata: { name: NAME, namespace: SPACE },
    spec: {
      hostname: HOST,
      image: { repository: 'test.local/ratssaal', tag: image, pullPolicy: 'Never' },
      tls: { secretName: 'konferenz-tls' },
      exposure: { service: { type: 'NodePort', nodePort: NODE_PORT } },
      redis: { managed: { image: 'test.local/redis:1' } },
      drain: { deadlineSeconds: 120 },
      brand: { name: 'Landkreis Beispiel' },
      ...spec,
    },
  };
}

export const condition = (object, type) => object.status?.conditions?.find((one) => one.type === type)?.status;

/** The bridges that take participants, by node. */
export const readyBridges = (object) => Object.fromEntries((object.status?.bridges ?? []).filter(({ state }) => state === 'Ready').map((bridge) => [bridge.node, bridge]));

/** The pair for the server API. */
export async function apiKey(cluster) {
  const { data } = await cluster.get('--namespace', SPACE, 'secret', `${NAME}-api-keys`);
  const [[key, secret]] = Object.entries(data).map(([name, value]) => [name, Buffer.from(value, 'base64').toString()]);
  return { key, secret };
}

/** A call of the server API from a guest's page (only there the host name is known): `{ status, text }`; status 0 without an answer. */
export async function roomService(cluster, guest, method, body, grants) {
  const bearer = token(await apiKey(cluster), body.room ?? '', 'e2e', { roomJoin: false, ...grants });
  return guest.page.evaluate(async (path, content, authorization) => {
    try {
      const response = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json', authorization }, body: content, signal: AbortSignal.timeout(10_000) });
      return { status: response.status, text: await response.text() };
    } catch (error) {
      return { status: 0, text: String(error) };
    }
  }, `/twirp/livekit.RoomService/${method}`, JSON.stringify(body), `Bearer ${bearer}`);
}

/** Who is in a room by the server's own words: sids by name. */
export async function sids(cluster, guest, room) {
  const answer = await roomService(cluster, guest, 'ListParticipants', { room }, { roomAdmin: true });
  if (answer.status !== 200) throw new Error(`ListParticipants: ${answer.status} ${answer.text}`);
  return Object.fromEntries(JSON.parse(answer.text).participants.map(({ name, sid }) => [name, sid]).sort());
}

/** On which nodes the parts are. */
export async function whereabouts(cluster) {
  const { items } = await cluster.get('pods', '--all-namespaces', '--selector=app.kubernetes.io/name=ratssaal');
  const there = items.filter(({ metadata }) => !metadata.deletionTimestamp);
  const nodes = (part) => there.filter(({ metadata: { labels } }) => labels['app.kubernetes.io/component'] === part).map(({ spec }) => spec.nodeName).sort();
  return { redis: nodes('redis')[0], allocators: nodes('allocator'), operators: nodes('operator') };
}
