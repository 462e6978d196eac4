// The load balancer in front of the cluster, as a data centre has one: TCP on a port of the client's address to the same port
// of the nodes in turn, past those that do not answer.
import net from 'node:net';

/** A node that does not take a connection within this, ms, is passed over. */
const PATIENCE = 300;

/** `await Balancer.open(address, port)`; `balancer.nodes = ['10.77.0.11', …]` at any time. */
export class Balancer {
  static async open(address, port) {
    const balancer = new Balancer();
    Object.assign(balancer, { nodes: [], turn: 0, port, sockets: new Set() });
    balancer.server = net.createServer({ pauseOnConnect: true, noDelay: true }, (client) => balancer.connect(client, balancer.nodes.length));
    await new Promise((resolve, reject) => balancer.server.once('error', reject).listen(port, address, resolve));
    return balancer;
  }

  connect(client, tries) {
    if (tries === 0) {
      client.destroy();
      return;
    }
    const host = this.nodes[this.turn++ % this.nodes.length];
    const node = net.connect({ host, port: this.port, noDelay: true });
    const passOver = setTimeout(() => node.destroy(new Error('no answer')), PATIENCE);
    const failed = () => { clearTimeout(passOver); this.connect(client, tries - 1); };
    node.once('error', failed);
    node.once('connect', () => {
      clearTimeout(passOver);
      node.off('error', failed);
      for (const [one, other] of [[client, node], [node, client]]) {
        this.sockets.add(one);
        one.once('close', () => { this.sockets.delete(one); other.destroy(); });
        one.on('error', () => {});
        one.pipe(other);
      }
    });
  }

  close() {
    this.sockets.forEach((socket) => socket.destroy());
    return new Promise((resolve) => this.server.close(resolve));
  }
}
