// Access tokens as any LiveKit server SDK makes them: HS256 JSON Web Tokens with a `video` grant.
import { createHmac } from 'node:crypto';

const encode = (value) => Buffer.from(value).toString('base64url');

/** A token for `room` as `identity`, valid for an hour; `grants` are laid over the usual ones of a participant. */
export function token({ key, secret }, room, identity, grants = {}, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const header = { alg: 'HS256', typ: 'JWT' };
  const payload = {
    iss: key,
    sub: identity,
    name: identity,
    nbf: now - 10,
    exp: now + 3600,
    ...claims,
    video: { roomJoin: true, room, canPublish: true, canSubscribe: true, canPublishData: true, ...grants },
  };
  const body = `${encode(JSON.stringify(header))}.${encode(JSON.stringify(payload))}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

/** Calls the room service; fails on anything but 200. */
export async function roomService(server, method, body, grants) {
  const response = await fetch(`${server.http}/twirp/livekit.RoomService/${method}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${token(server, body.room ?? '', 'e2e', { roomJoin: false, roomAdmin: true, roomCreate: true, roomList: true, ...grants })}`,
    },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${method}: ${response.status} ${text}`);
  return JSON.parse(text);
}
