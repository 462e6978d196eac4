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

/** Who is in a room by the server's own words, asked from a guest's page (only there the host name is known): sids by name. */
export async function sids(cluster, guest, room) {
  const { data } = await cluster.get('--namespace', SPACE, 'secret', `${NAME}-api-keys`);
  const [[key, secret]] = Object.entries(data).map(([name, value]) => [name, Buffer.from(value, 'base64').toString()]);
  const bearer = token({ key, secret }, room, 'e2e', { roomJoin: false, roomAdmin: true });
  const answer = await guest.page.evaluate(async (body, authorization) => {
    const response = await fetch('/twirp/livekit.RoomService/ListParticipants', { method: 'POST', headers: { 'content-type': 'application/json', authorization }, body });
    return { status: response.status, text: await response.text() };
  }, JSON.stringify({ room }), `Bearer ${bearer}`);
  if (answer.status !== 200) throw new Error(`ListParticipants: ${answer.status} ${answer.text}`);
  return Object.fromEntries(JSON.parse(answer.text).participants.map(({ name, sid }) => [name, sid]).sort());
}
