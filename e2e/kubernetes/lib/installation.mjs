// One installation as the test makes it: its VideoConference, its bridges as the status tells them.
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
