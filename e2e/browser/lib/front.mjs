// A load balancer before several servers: whoever comes is passed on to the first one that takes connections, in the order given,
// so that a test knows where a page sits, and the page comes back to the next one when that one has died.
import net from 'node:net';

/** Resolves with a connection to the first of `servers` that takes one; null if none does. */
async function reach(servers) {
  for (const { http } of servers) {
    const socket = net.connect({ host: '127.0.0.1', port: Number(new URL(http).port), noDelay: true });
    const taken = await new Promise((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
    if (taken) return socket;
  }
  return null;
}

/** One before `servers`, to be joined like them: `{ http, ws, key, secret, stop() }`. */
export async function startFront(servers) {
  const clients = new Set();
  const front = net.createServer({ noDelay: true, pauseOnConnect: true }, async (client) => {
    clients.add(client);
    client.on('error', () => {}).once('close', () => clients.delete(client));
    const server = await reach(servers);
    if (!server || client.destroyed) {
      client.destroy();
      server?.destroy();
      return;
    }
    for (const [socket, other] of [[client, server], [server, client]]) socket.on('error', () => {}).once('close', () => other.destroy());
    client.pipe(server).pipe(client);
  });
  await new Promise((resolve, reject) => front.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { key, secret } = servers[0];
  const http = `http://localhost:${front.address().port}`;
  return {
    http,
    ws: http.replace(/^http/, 'ws'),
    key,
    secret,
    stop: () => new Promise((resolve) => { for (const client of clients) client.destroy(); front.close(resolve); }),
  };
}
