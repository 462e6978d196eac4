// The one address of `make cluster`: passes TCP connections on to the servers that are ready, in turn, and cuts those of servers
// that do not answer any more, so that browsers come back through another one. In a real cluster a load balancer does this.
//
// node scripts/cluster-front.mjs <listen host:port> <server host:port>...

import http from 'node:http';
import net from 'node:net';

const PULSE = 500;
const PATIENCE = 1000;
// As many pulses without an answer, and a server is taken for dead.
const MISSES = 2;

const split = (text) => {
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) };
};

const [listen, ...addresses] = process.argv.slice(2);
const servers = addresses.map((address) => ({ ...split(address), ready: false, misses: 0, sockets: new Set() }));
let turn = 0;

function pulse(server) {
  const { host, port } = server;
  const request = http.get({ host, port, path: '/readyz', timeout: PATIENCE, agent: false }, (response) => {
    response.resume();
    server.misses = 0;
    server.ready = response.statusCode === 200;
  });
  request.on('timeout', () => request.destroy(new Error('timeout')));
  request.on('error', () => {
    server.misses += 1;
    if (server.misses < MISSES) return;
    server.ready = false;
    for (const socket of server.sockets) socket.destroy();
  });
}

function pass(client) {
  const ready = servers.filter((server) => server.ready);
  // While none is ready, one that drains still tells people so.
  const chosen = ready.length > 0 ? ready : servers.filter((server) => server.misses < MISSES);
  if (chosen.length === 0) return client.destroy();
  const server = chosen[turn++ % chosen.length];
  const upstream = net.connect({ host: server.host, port: server.port, noDelay: true });
  client.setNoDelay(true);
  server.sockets.add(client);
  const end = () => {
    server.sockets.delete(client);
    client.destroy();
    upstream.destroy();
  };
  for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  client.pipe(upstream).pipe(client);
}

for (const server of servers) {
  pulse(server);
  setInterval(pulse, PULSE, server);
}
net
  .createServer(pass)
  .on('error', (error) => {
    console.error(`error: cannot listen on ${listen}: ${error.message}; end what uses it or set PORT`);
    process.exit(1);
  })
  .listen(split(listen).port, split(listen).host);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
